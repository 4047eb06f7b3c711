"""The section of molecular dynamics with LAMMPS."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.jobs.explore.lammps import LammpsExploreMaker
from ionloop.jobs.explore.starts import Perturbation
from ionloop.runfile.sections.base import ExploreSection, Fraction
from ionloop.selection.physical import PhysicalLimits


class LammpsSection(ExploreSection, LammpsSettings):
    """Molecular dynamics with LAMMPS."""

    settings_type = LammpsSettings
    maker_type = LammpsExploreMaker

    code: Literal["lammps"] = Field("lammps", description="LAMMPS")
    perturbation: Perturbation = Field(
        Perturbation(), description="how start structures are disturbed"
    )
    limits: PhysicalLimits = Field(
        PhysicalLimits(), description="frames beyond them are failed, whatever the deviation"
    )
    batch_size: PositiveInt = Field(
        LammpsExploreMaker.batch_size,
        description="trajectories per job; those of one process share a start-up of LAMMPS",
    )
    max_candidates: PositiveInt = Field(
        LammpsExploreMaker.max_candidates,
        description="candidates per trajectory that may be picked; evenly thinned above",
    )
    floor: Fraction = Field(
        LammpsExploreMaker.floor,
        description="fraction of the trajectories that must give at least one frame",
    )
    cores: PositiveInt = Field(LammpsExploreMaker.cores, description="cores of one LAMMPS process")
    per_gpu: PositiveInt = Field(
        LammpsExploreMaker.per_gpu,
        description="LAMMPS processes that run at the same time in one job, which share its "
        "trajectories and its GPU (by NVIDIA's MPS where it is installed)",
    )
