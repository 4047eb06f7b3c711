"""A labeller in one file: atoms with the pair energy 4ε((σ/r)¹² - (σ/r)⁶)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.neighborlist import neighbor_list

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.labeller import Labeller
from ionloop.formats.ase import to_ase
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LevelOfTheory


class LennardJones(Labeller):
    epsilon: float = 0.1  # eV
    sigma: float = 2.45  # Å
    cutoff: float = 6.0  # Å

    @property
    def level(self) -> LevelOfTheory:
        about = self.model_dump(include={"epsilon", "sigma", "cutoff"})
        return LevelOfTheory(code="lennard-jones", settings=about)

    def calculate(self, frame: Frames, folder: Path, cores: int = 1) -> Calculated:
        (atoms,) = to_ase(frame)
        first, distance, vector = neighbor_list("idD", atoms, self.cutoff)  # every pair twice
        power = (self.sigma / distance) ** 6
        pull = (24 * self.epsilon * (power - 2 * power**2) / distance**2)[:, None] * vector
        forces = np.zeros((frame.n_atoms, 3))
        np.add.at(forces, first, pull)
        energy = 2 * self.epsilon * np.sum(power**2 - power)
        return Calculated(energy=energy, forces=forces, virial=-vector.T @ pull / 2)
