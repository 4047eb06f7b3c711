"""Settings of LAMMPS."""

from __future__ import annotations

from pydantic import Field

from ionloop.codes.common.md import MdSettings
from ionloop.programs.environment import Command
from ionloop.schemas.units import Length, Seconds


class LammpsSettings(MdSettings):
    """How LAMMPS is run, and when a trajectory has exploded."""

    command: Command = "lmp"
    """command that runs LAMMPS, with its launcher (such as srun) if any"""
    skin: Length = Field(2.0, gt=0)
    """skin of the neighbour list in Å"""
    stall_timeout: Seconds = Field(600.0, gt=0)
    """seconds without a new frame after which LAMMPS is ended"""
