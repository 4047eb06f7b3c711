"""LAMMPS: molecular dynamics with an ensemble."""

from __future__ import annotations

from ionloop.codes.lammps.process import run_trajectories as run_trajectories
from ionloop.codes.lammps.program import LammpsError as LammpsError
from ionloop.codes.lammps.program import check_models as check_models
from ionloop.codes.lammps.program import program_version as program_version
from ionloop.codes.lammps.program import version_of_run as version_of_run
from ionloop.codes.lammps.script import PAIR_STYLES as PAIR_STYLES
from ionloop.codes.lammps.settings import LammpsSettings as LammpsSettings
