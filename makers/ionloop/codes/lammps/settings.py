"""Settings of LAMMPS."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from ionloop.programs.environment import Command
from ionloop.schemas.document import Model
from ionloop.schemas.units import Femtoseconds, Force, Length, Seconds


class LammpsSettings(Model):
    """How LAMMPS is run, and when a trajectory has exploded."""

    command: Command = "lmp"
    """command that runs LAMMPS, with its launcher (such as srun) if any"""
    skin: Length = Field(2.0, gt=0)
    """skin of the neighbour list in Å"""
    thermostat_damping: Femtoseconds = Field(100.0, gt=0)
    """relaxation time of the Langevin thermostat in fs"""
    barostat_damping: Femtoseconds = Field(500.0, gt=0)
    """relaxation time of the Nosé-Hoover barostat in fs"""
    stop_max_devi_f: Force = Field(10.0, gt=0)
    """max_devi_f in eV/Å above which a trajectory has exploded"""
    stop_temperature_factor: float = Field(5.0, gt=1)
    """a trajectory this many times hotter than its target has exploded, without what is left of the
    heat of its start's perturbation"""
    stop_distance: Length = Field(0.5, gt=0)
    """distance in Å below which two atoms have collapsed"""
    stall_timeout: Seconds = Field(600.0, gt=0)
    """seconds without a new frame after which LAMMPS is ended"""
    restart_every: PositiveInt = 10_000
    """steps between restart files, from which a trajectory goes on after its worker was lost; a
    shorter one is begun anew"""

    def hottest(self, temperature: float) -> float:
        """Return the temperature in K above which a trajectory at `temperature` has exploded.

        What is left of the perturbation's own heat (`TrajectoryTask.heat_at`) comes on top.
        """
        return self.stop_temperature_factor * temperature
