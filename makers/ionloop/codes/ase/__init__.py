"""Molecular dynamics in this process, with any potential that has an ASE calculator."""

from __future__ import annotations

from ionloop.codes.ase.run import run_trajectories as run_trajectories
from ionloop.codes.ase.settings import AseSettings as AseSettings
