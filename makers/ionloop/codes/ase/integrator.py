"""Equations of motion in the NVT and NPT ensembles, with a Langevin thermostat and barostat.

Velocities and positions follow the BAOAB splitting [1]_, whose thermostat step is exact. For NPT,
the cell follows the strain rate G (a symmetric matrix), a degree of freedom of its own with the
mass W, in the equations of Martyna, Tobias and Klein [2]_ with the Langevin barostat of Quigley and
Probert [3]_::

    dx/dt = v + G x        dh/dt = G h
    dv/dt = F/m - (G + tr G / N_f) v - γ v + noise
    W dG/dt = V (P - P_ext) + (1/N_f) Σ m v² - γ_p W G + noise

P is the pressure tensor with its kinetic part, N_f = 3N - 3 since the centre of mass rests, and
W = (N_f + 3) k_B T τ² / 3. The stationary distribution is that of the isothermal-isobaric ensemble.
Isotropic and anisotropic barostats move only a part of G.

.. [1] Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013).
.. [2] Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177 (1994).
.. [3] Quigley and Probert, J. Chem. Phys. 120, 11432 (2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from ionloop.codes.common.md import MdSettings
from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.schemas.exploration import Ensemble
from ionloop.schemas.packed import Array


@dataclass(eq=False)
class Motion:
    """Where the atoms are and how they move; an integrator changes it in place.

    Parameters
    ----------
    positions
        Unwrapped positions in Å, (n, 3).
    velocities
        In ASE's unit, √(eV/u), (n, 3).
    cell
        Lattice vectors as rows in Å, (3, 3).
    strain_rate
        Symmetric rate of the cell's strain in 1/(ASE's unit of time), (3, 3).
    forces
        Forces at these positions in eV/Å, (n, 3).
    virial
        Virial at these positions in eV, (3, 3).
    """

    positions: Array
    velocities: Array
    cell: Array
    strain_rate: Array
    forces: Array
    virial: Array

    @property
    def volume(self) -> float:
        """Volume of the cell in Å³."""
        return abs(float(np.linalg.det(self.cell)))


@dataclass(frozen=True, eq=False)
class Integrator:
    """One trajectory's equations of motion.

    Parameters
    ----------
    masses
        Masses in u, (n, 1).
    thermal
        k_B T in eV.
    timestep
        Time step in ASE's unit of time.
    friction
        Rate of the thermostat in 1/(ASE's unit of time); 0: no thermostat, energy is conserved.
    ensemble
        NVT, or NPT with an isotropic, anisotropic or triclinic barostat.
    pressure
        External pressure in eV/Å³.
    piston
        Relaxation time of the barostat in ASE's unit of time.
    piston_friction
        Rate of the barostat's own thermostat; 0: none.
    frame
        Axes along which an anisotropic barostat scales, as columns, (3, 3).
    """

    masses: Array
    thermal: float
    timestep: float
    friction: float
    ensemble: Ensemble
    pressure: float
    piston: float
    piston_friction: float
    frame: Array

    @classmethod
    def of(cls, task: TrajectoryTask, settings: MdSettings) -> Self:
        """Return the integrator of a trajectory.

        Parameters
        ----------
        task
            The trajectory. The axes of an anisotropic barostat are those of a cell whose first
            vector lies along x and the second in the xy plane, as in LAMMPS.
        settings
            Relaxation times of thermostat and barostat.
        """
        from ase import units
        from ase.data import atomic_masses, atomic_numbers

        masses = [atomic_masses[atomic_numbers[symbol]] for symbol in task.start.symbols]
        return cls(
            masses=np.array(masses)[:, None],
            thermal=units.kB * task.temperature,
            timestep=task.timestep * units.fs,
            friction=1 / (settings.thermostat_damping * units.fs),
            ensemble=task.ensemble,
            pressure=task.pressure * units.bar,
            piston=settings.barostat_damping * units.fs,
            piston_friction=1 / (settings.barostat_damping * units.fs),
            frame=np.linalg.qr(task.start.cells[0].T)[0],
        )

    @property
    def moves_cell(self) -> bool:
        """Whether there is a barostat, which needs virials."""
        return self.ensemble != "nvt"

    @property
    def freedoms(self) -> int:
        """Degrees of freedom of the atoms: the centre of mass rests."""
        return max(3 * len(self.masses) - 3, 1)

    @property
    def piston_mass(self) -> float:
        """Mass W of a component of the strain rate."""
        return (self.freedoms + 3) * self.thermal * self.piston**2 / 3

    def start(self, positions: Array, cell: Array, random: np.random.Generator) -> Motion:
        """Return atoms with random velocities of exactly the temperature, and a cell at rest.

        Parameters
        ----------
        positions, cell
            In Å, (n, 3) and (3, 3).
        random
            The random numbers.
        """
        velocities = self._at_rest(self._thermal_velocities(random))
        energy = self.kinetic_energy(velocities)
        if energy > 0:  # a single atom rests
            velocities *= np.sqrt(self.freedoms * self.thermal / 2 / energy)
        none = np.zeros((3, 3))
        return Motion(positions.copy(), velocities, cell.copy(), none, 0 * velocities, none.copy())

    def kinetic_energy(self, velocities: Array) -> float:
        """Return the kinetic energy of velocities (n, 3) in eV."""
        return float(np.sum(self.masses * velocities**2)) / 2

    def temperature(self, velocities: Array) -> float:
        """Return the temperature of velocities (n, 3) in K."""
        from ase import units

        return 2 * self.kinetic_energy(velocities) / (self.freedoms * units.kB)

    def before_forces(self, motion: Motion, random: np.random.Generator) -> None:
        """Go a step up to where the forces at the new positions are needed.

        Parameters
        ----------
        motion
            What moves, with the forces of its positions.
        random
            The random numbers.
        """
        self._push_cell(motion)
        self._push_atoms(motion)
        self._drift(motion)
        self._thermalise(motion, random)
        self._drift(motion)

    def after_forces(self, motion: Motion) -> None:
        """End a step, with the forces and the virial of the new positions."""
        self._push_atoms(motion)
        self._push_cell(motion)

    def _push_atoms(self, motion: Motion) -> None:
        kick = 0.5 * self.timestep * motion.forces / self.masses
        if not self.moves_cell:
            motion.velocities += kick
            return
        rate = motion.strain_rate
        drag = rate + np.trace(rate) / self.freedoms * np.eye(3)
        damp = _exponential(-0.25 * self.timestep * drag)
        motion.velocities = (motion.velocities @ damp + kick) @ damp

    def _push_cell(self, motion: Motion) -> None:
        if not self.moves_cell:
            return
        momenta = self.masses * motion.velocities
        kinetic = motion.velocities.T @ momenta
        excess = kinetic + motion.virial - self.pressure * motion.volume * np.eye(3)
        push = excess + np.trace(kinetic) / self.freedoms * np.eye(3)
        motion.strain_rate += 0.5 * self.timestep * self._allowed(push) / self.piston_mass

    def _drift(self, motion: Motion) -> None:
        half = 0.5 * self.timestep
        if not self.moves_cell:
            motion.positions += half * motion.velocities
            return
        stretch = _exponential(0.5 * half * motion.strain_rate)
        motion.positions = (motion.positions @ stretch + half * motion.velocities) @ stretch
        motion.cell = motion.cell @ stretch @ stretch

    def _thermalise(self, motion: Motion, random: np.random.Generator) -> None:
        if self.friction:
            keep = np.exp(-self.friction * self.timestep)
            noise = np.sqrt(1 - keep**2) * self._thermal_velocities(random)
            motion.velocities = self._at_rest(keep * motion.velocities + noise)
        if self.moves_cell and self.piston_friction:
            keep = np.exp(-self.piston_friction * self.timestep)
            spread = np.sqrt((1 - keep**2) * self.thermal / self.piston_mass)
            noise = spread * random.standard_normal((3, 3))
            motion.strain_rate = keep * motion.strain_rate + self._allowed(noise)

    def _thermal_velocities(self, random: np.random.Generator) -> Array:
        normal = random.standard_normal((len(self.masses), 3))
        velocities: Array = np.sqrt(self.thermal / self.masses) * normal
        return velocities

    def _at_rest(self, velocities: Array) -> Array:
        """Return velocities without that of the centre of mass.

        A projection that is orthogonal in the metric of the kinetic energy: what is left is
        distributed as at the temperature, in 3N - 3 dimensions.
        """
        rest: Array = velocities - np.sum(self.masses * velocities, axis=0) / np.sum(self.masses)
        return rest

    def _allowed(self, matrix: Array) -> Array:
        """Return the part of a strain, (3, 3), that the barostat moves."""
        symmetric: Array = (matrix + matrix.T) / 2
        if self.ensemble == "npt-iso":
            symmetric = np.trace(symmetric) / 3 * np.eye(3)
        if self.ensemble == "npt-aniso":
            along = np.diag(self.frame.T @ symmetric @ self.frame)
            symmetric = (self.frame * along) @ self.frame.T
        return symmetric


def _exponential(matrix: Array) -> Array:
    """Return the exponential of a symmetric matrix, (3, 3)."""
    values, vectors = np.linalg.eigh(matrix)
    exponential: Array = (vectors * np.exp(values)) @ vectors.T
    return exponential
