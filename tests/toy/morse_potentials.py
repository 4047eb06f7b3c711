"""Potentials of a kind of our own: Morse's, with parameters in a file, in about a ms a step.

They name what the explorer needs of a kind: a function (model file, device) that returns an ASE
calculator. A model whose file says `fails` raises from the evaluation of that number on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from ionloop.schemas.potential import StoredFile

KIND = "morse_potentials:calculator"


class Morse(Calculator):
    """Pairs of nearest images with the energy depth ((1 - e^{-steep (r - r0)})² - 1).

    Force and energy are shifted to be zero at the cutoff, half of the shortest height of a cell at
    most.
    """

    # ASE declares an instance variable
    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(
        self,
        depth: float,
        r0: float = 2.55,
        steep: float = 1.6,
        cutoff: float = 3.5,
        fails: int = -1,
    ) -> None:
        super().__init__()
        self.pair = (depth, r0, steep, cutoff)
        self.left = fails

    def calculate(
        self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        """Calculate, as long as the model does not fail."""
        super().calculate(atoms, properties, system_changes)
        self.left -= 1
        if self.left == -1:
            self.left = 0
            raise ValueError("no more")
        cell = atoms.cell.array
        vector = atoms.positions[:, None] - atoms.positions
        vector -= np.rint(vector @ np.linalg.inv(cell)) @ cell
        distance = np.linalg.norm(vector, axis=2)
        np.fill_diagonal(distance, np.inf)
        cutoff = self.pair[-1]
        energy, slope = self.curve(np.minimum(distance, cutoff))
        edge, steepness = self.curve(np.array(cutoff))
        inside = distance < cutoff
        energy = np.where(inside, energy - edge - steepness * (distance - cutoff), 0.0)
        pull = np.where(inside, (slope - steepness) / distance, 0.0)[..., None] * vector
        stress = np.einsum("ijx,ijy->xy", vector, pull) / 2 / atoms.get_volume()
        total = float(energy.sum()) / 2
        self.results = {
            "energy": total,
            "free_energy": total,
            "forces": -pull.sum(axis=1),
            "stress": full_3x3_to_voigt_6_stress(stress),
        }

    def curve(self, distance: Any) -> tuple[Any, Any]:
        """Return energy and slope of the bare potential."""
        depth, r0, steep, _ = self.pair
        decay = np.exp(-steep * (distance - r0))
        return depth * ((1 - decay) ** 2 - 1), 2 * depth * steep * (1 - decay) * decay


def calculator(model: Path, device: str) -> Morse:
    """Return the ASE calculator of a model file."""
    return Morse(**json.loads(model.read_text()))


def model(**parameters: float) -> StoredFile:
    """Return a model file."""
    return StoredFile("morse.json", json.dumps(parameters).encode())


def ensemble() -> list[StoredFile]:
    """Return two models."""
    return [model(depth=0.3), model(depth=0.33)]
