"""The section of labels that are calculated outside."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from ionloop.codes.external.settings import ExternalSettings
from ionloop.jobs.label.external import ExternalLabelMaker
from ionloop.runfile.sections.base import Allowance, Fraction, LabelSection
from ionloop.schemas.environment import absolute


class ExternalSection(LabelSection, ExternalSettings):
    """Labels that are calculated outside and imported by ``ionloop label``."""

    settings_type = ExternalSettings
    maker_type = ExternalLabelMaker
    relaxes = False
    runs_dynamics = False

    code: Literal["external"] = Field("external", description="labels from outside")
    floor: Fraction = Field(
        ExternalLabelMaker.floor,
        description="smallest fraction of the labels with which a turn goes on",
    )
    allowance: Allowance = ExternalLabelMaker.allowance

    def located(self, folder: Path) -> Self:
        """Return the section with the path of the frames to label made absolute."""
        return self.model_copy(update={"folder": absolute(self.folder, folder)})
