"""The section of molecular dynamics with LAMMPS."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.jobs.explore.lammps import LammpsExploreMaker
from ionloop.jobs.explore.starts import Perturbation
from ionloop.runfile.sections.base import ExploreSection, Fraction
from ionloop.selection.physical import PhysicalLimits


class LammpsSection(ExploreSection, LammpsSettings):
    """Molecular dynamics with LAMMPS."""

    settings_type = LammpsSettings
    maker_type = LammpsExploreMaker

    code: Literal["lammps"] = "lammps"
    """LAMMPS"""
    perturbation: Perturbation = Perturbation()
    """how start structures are disturbed"""
    limits: PhysicalLimits = PhysicalLimits()
    """frames beyond them are failed, whatever the deviation"""
    batch_size: PositiveInt = LammpsExploreMaker.batch_size
    """trajectories per job; those of one process share a start-up of LAMMPS"""
    max_candidates: PositiveInt = LammpsExploreMaker.max_candidates
    """candidates per trajectory that may be picked; evenly thinned above"""
    floor: Fraction = LammpsExploreMaker.floor
    """fraction of the trajectories that must give at least one frame"""
    cores: PositiveInt = LammpsExploreMaker.cores
    """cores of one LAMMPS process"""
    per_gpu: PositiveInt = LammpsExploreMaker.per_gpu
    """LAMMPS processes that run at the same time in one job, which share its trajectories and its
    GPU (by NVIDIA's MPS where it is installed)"""
