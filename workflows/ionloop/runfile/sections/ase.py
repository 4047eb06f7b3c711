"""The section of molecular dynamics with ASE calculators."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from ionloop.codes.ase.settings import AseSettings
from ionloop.jobs.explore.ase import AseExploreMaker
from ionloop.jobs.explore.starts import Perturbation
from ionloop.runfile.sections.base import ExploreSection, Fraction
from ionloop.selection.physical import PhysicalLimits


class AseSection(ExploreSection, AseSettings):
    """Molecular dynamics with any potential that has an ASE calculator."""

    settings_type = AseSettings
    maker_type = AseExploreMaker

    code: Literal["ase"] = "ase"
    """ASE calculators: SevenNet, CHGNet, MACE, DeePMD-kit, or your own"""
    perturbation: Perturbation = Perturbation()
    """how start structures are disturbed"""
    limits: PhysicalLimits = PhysicalLimits()
    """frames beyond them are failed, whatever the deviation"""
    batch_size: PositiveInt | None = AseExploreMaker.batch_size
    """trajectories per job, one after another on one core; on a GPU, those of a batch; none: 1 on
    the CPU, 16 on a GPU or with batched: always"""
    max_candidates: PositiveInt = AseExploreMaker.max_candidates
    """candidates per trajectory that may be picked; evenly thinned above"""
    floor: Fraction = AseExploreMaker.floor
    """fraction of the trajectories that must give at least one frame"""
