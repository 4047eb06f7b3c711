"""What the sections of all codes share that fine-tune a universal potential."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt

from ionloop.codes.finetuning.settings import SCRATCH, FineTuner
from ionloop.codes.finetuning.torch_settings import TorchFineTuner
from ionloop.jobs.train.finetune import FineTuneMaker
from ionloop.runfile.sections.base import MOST_MODELS, Production, TrainSection
from ionloop.schemas.environment import absolute


class FineTuneSection(TrainSection, FineTuner):
    """An ensemble of fine-tuned universal potentials."""

    n_models: PositiveInt = Field(FineTuneMaker.n_models, le=MOST_MODELS)
    """models in the ensemble, 2 or more"""
    min_models: PositiveInt = FineTuneMaker.min_models
    """models that must succeed for a turn to go on"""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """fraction of the frames held back from training, for good and by whole trajectories; of files
    20 frames in a row"""
    cores: PositiveInt = FineTuneMaker.cores
    """cores of one training"""
    per_gpu: PositiveInt = FineTuneMaker.per_gpu
    """trainings that run at the same time in one job, which share its GPU (by NVIDIA's MPS where it
    is installed)"""

    def located(self, folder: Path) -> Self:
        """Return the section with the path of a local base made absolute."""
        found = absolute(Path(self.base), folder)
        return self.model_copy(update={"base": str(found)}) if found.is_file() else self

    def for_production(self, production: Production, **changes: Any) -> Self:
        """Return the section that trains the potential at the end; see `TrainSection`."""
        if production.steps:
            changes["steps"] = production.steps
        if not production.warm_start:
            changes["warm_steps"] = None
        elif self.warm_steps and production.steps:
            changes["warm_steps"] = production.steps
        return super().for_production(production, **changes)

    @property
    def start(self) -> str:
        """Where a training starts, as a part of a sentence."""
        return "from scratch" if self.base == SCRATCH else f"from {self.base}"

    @property
    def description(self) -> str:
        """What is trained, as a part of a sentence."""
        if self.base == SCRATCH:
            return f"{self.code} models from scratch"
        return f"models fine-tuned from {self.base}"


class TorchFineTuneSection(FineTuneSection, TorchFineTuner):
    """An ensemble of potentials that are fine-tuned in the process of the job."""

    def other_network(self, other: TrainSection) -> list[str]:
        """Return the keys in which two trainings begin otherwise; see `TrainSection`."""
        if not isinstance(other, type(self)):
            return ["code"]
        return self.other_start(other)
