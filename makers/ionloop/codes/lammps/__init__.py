"""LAMMPS: molecular dynamics with an ensemble."""

from __future__ import annotations

from ionloop.codes.lammps.errors import LammpsError
from ionloop.codes.lammps.process import run_trajectories
from ionloop.codes.lammps.program import check_models, program_version, version_of_run
from ionloop.codes.lammps.script import PAIR_STYLES
from ionloop.codes.lammps.settings import LammpsSettings

__all__ = [
    "PAIR_STYLES",
    "LammpsError",
    "LammpsSettings",
    "check_models",
    "program_version",
    "run_trajectories",
    "version_of_run",
]
