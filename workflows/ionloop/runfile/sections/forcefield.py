"""The section of labels from a universal potential."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.runfile.sections.base import BatchLabelSection
from ionloop.schemas.environment import absolute


class ForceFieldSection(BatchLabelSection, ForceFieldSettings):
    """Labels from a universal potential, or from any ASE calculator."""

    settings_type = ForceFieldSettings
    maker_type = ForceFieldLabelMaker

    code: Literal["forcefield"] = "forcefield"
    """a universal potential"""

    def located(self, folder: Path) -> Self:
        """Return the section with the checkpoint's path made absolute."""
        if self.checkpoint is None:
            return self
        return self.model_copy(update={"checkpoint": absolute(self.checkpoint, folder)})
