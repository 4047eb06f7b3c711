"""The section of labels from VASP."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from ionloop.codes.vasp import level
from ionloop.codes.vasp.presets import kpoints
from ionloop.codes.vasp.settings import VaspSettings
from ionloop.jobs.label.vasp import VaspLabelMaker
from ionloop.runfile.sections.base import BatchLabelSection, Fraction
from ionloop.schemas.kpoints import KPoints


class VaspSection(BatchLabelSection, VaspSettings):
    """Labels from VASP, under custodian."""

    settings_type = VaspSettings
    maker_type = VaspLabelMaker
    starts_a_program = True

    code: Literal["vasp"] = "vasp"
    """VASP"""
    batch_size: PositiveInt = VaspLabelMaker.batch_size
    """frames per job; 1 lets a queue spread them"""
    quorum: Fraction = Field(
        VaspLabelMaker.quorum,
        description=BatchLabelSection.model_fields["quorum"].description,
    )
    cores: PositiveInt = VaspLabelMaker.cores
    """MPI ranks of a calculation"""

    @property
    def sampling(self) -> KPoints:
        """The k-points, of the preset where the run file says none."""
        return kpoints(self)

    @property
    def doubtful_keys(self) -> list[str]:
        """Hashes under which version 0.1 kept labels that may, or may not, be of this level."""
        return level.doubtful_keys(self)
