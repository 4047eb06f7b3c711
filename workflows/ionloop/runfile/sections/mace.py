"""The section of ensembles of MACE models."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from ionloop.codes.mace.beginning import start_keys
from ionloop.codes.mace.settings import MaceSettings
from ionloop.jobs.train.mace import MaceTrainMaker
from ionloop.runfile.sections.base import TrainSection
from ionloop.runfile.sections.finetune import FineTuneSection
from ionloop.schemas.environment import absolute


class MaceSection(MaceSettings, FineTuneSection):
    """An ensemble of MACE models: fine-tuned from a local model, or from scratch."""

    settings_type = MaceSettings
    maker_type = MaceTrainMaker

    code: Literal["mace"] = "mace"
    """MACE, in an environment of its own"""

    def located(self, folder: Path) -> Self:
        """Return the section with the paths of base and replay file made absolute."""
        located = super().located(folder)
        if self.replay is None:
            return located
        return located.model_copy(update={"replay": str(absolute(Path(self.replay), folder))})

    def other_network(self, other: TrainSection) -> list[str]:
        """Return the keys in which two trainings begin otherwise; see `TrainSection`."""
        if not isinstance(other, MaceSection):
            return ["code"]
        return [key for key in start_keys(self) if getattr(self, key) != getattr(other, key)]
