"""A trajectory: what is asked for, and the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ionloop.schemas.document import Model
from ionloop.schemas.exploration import Ensemble
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.units import Femtoseconds, Pressure, Temperature


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The valid part of a trajectory.

    Parameters
    ----------
    task
        What was asked.
    frames
        Valid frames from step 0 on, in the start's atom order, orientation and lattice setting,
        unwrapped and on the grid of the frame ids.
    steps
        MD step of every frame, (f,).
    max_devi_f
        Maximum force deviation in eV/Å, (f,).
    max_devi_v
        Maximum deviation of the virial per atom in eV/atom, (f,), of the components along LAMMPS'
        own axes: for a start cell that is not lower triangular they are not the frames' axes.
    temperatures
        Instantaneous temperature in K, (f,).
    finished
        Whether every frame that was asked for is there.
    stop_reason
        A sentence, if not.
    seconds
        Wall time in s; the start-up of a process counts with its first trajectory. What a lost
        worker did and had to be repeated does not count.
    """

    task: TrajectoryTask
    frames: Frames
    steps: Array
    max_devi_f: Array
    max_devi_v: Array
    temperatures: Array
    finished: bool
    stop_reason: str
    seconds: float


class TrajectoryTask(Model):
    """One trajectory to run."""

    index: int
    """number within the exploration; it names the files"""
    start: Frames
    """start configuration: one frame"""
    temperature: Temperature
    pressure: Pressure
    """NVT does not use it"""
    structure: int = 0
    """number of the start structure"""
    driver: int = 0
    """number of the model whose forces move the atoms, modulo the number of models"""
    heat: Temperature = 0.0
    """what the perturbation of the start may add to the temperature at first"""
    seed: int
    """seed of the velocities and of the thermostat"""
    ensemble: Ensemble
    """NVT, or NPT with an isotropic, anisotropic or triclinic barostat"""
    steps: int
    """MD steps; steps 0 and `steps` are both part of the trajectory"""
    timestep: Femtoseconds
    dump_every: int
    """steps between the frames that are kept, each with its model deviation"""

    @property
    def name(self) -> str:
        """Stem of the trajectory's file names."""
        return f"trajectory-{self.index:04d}"

    @property
    def group(self) -> str:
        """Group of its frames, which no other trajectory has."""
        return f"md {self.start.ids[0]} {self.seed}"

    @property
    def n_frames(self) -> int:
        """Number of frames of the whole trajectory."""
        return self.steps // self.dump_every + 1

    @property
    def last_step(self) -> int:
        """MD step of the last frame."""
        return (self.n_frames - 1) * self.dump_every

    def heat_at(self, steps: Array, damping: float) -> Array:
        """Return what is left of the perturbation's heat in K at MD steps, (f,).

        A Langevin thermostat removes kinetic energy at twice its rate; half of the energy of
        vibrations is potential energy, so that heat decays with ``exp(-t / damping)``.

        Parameters
        ----------
        steps
            MD steps, (f,).
        damping
            Relaxation time of the thermostat in fs.
        """
        left: Array = self.heat * np.exp(-np.asarray(steps) * self.timestep / damping)
        return left

    def in_turn(self, models: Sequence[str]) -> list[str]:
        """Return the models with the one that drives this trajectory first.

        LAMMPS moves the atoms by the forces of the first model. The deviation is that of all
        models and does not depend on their order.
        """
        first = self.driver % max(len(models), 1)
        return [*models[first:], *models[:first]]
