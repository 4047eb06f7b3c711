"""The section of labels that are calculated outside."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

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

    code: Literal["external"] = "external"
    """labels from outside"""
    floor: Fraction = ExternalLabelMaker.floor
    """smallest fraction of the labels with which a turn goes on"""
    allowance: Allowance = ExternalLabelMaker.allowance

    def located(self, folder: Path) -> Self:
        """Return the section with the path of the frames to label made absolute."""
        return self.model_copy(update={"folder": absolute(self.folder, folder)})
