"""The section of ensembles of fine-tuned DPA models."""

from __future__ import annotations

from typing import Literal

from ionloop.codes.dpa.settings import DpaSettings
from ionloop.jobs.train.dpa import DpaTrainMaker
from ionloop.runfile.sections.base import TrainSection
from ionloop.runfile.sections.finetune import FineTuneSection


class DpaSection(FineTuneSection, DpaSettings):
    """An ensemble of fine-tuned DPA models of DeePMD-kit."""

    settings_type = DpaSettings
    maker_type = DpaTrainMaker

    code: Literal["dpa"] = "dpa"
    """DPA models of DeePMD-kit"""

    def other_network(self, other: TrainSection) -> list[str]:
        """Return the keys in which two trainings begin otherwise; see `TrainSection`."""
        if not isinstance(other, DpaSection):
            return ["code"]
        return [key for key in ("base", "branch") if getattr(self, key) != getattr(other, key)]
