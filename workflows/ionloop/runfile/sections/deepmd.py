"""The section of ensembles from DeePMD-kit."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt

from ionloop.codes import deepmd
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.runfile.sections.base import MOST_MODELS, Production, TrainSection


class DeepmdSection(TrainSection, DeepmdSettings):
    """An ensemble of DeePMD-kit models that differ in their seeds."""

    settings_type = DeepmdSettings
    maker_type = DeepmdTrainMaker

    code: Literal["deepmd"] = "deepmd"
    """DeePMD-kit"""
    n_models: PositiveInt = Field(DeepmdTrainMaker.n_models, le=MOST_MODELS)
    """models in the ensemble, 2 or more"""
    min_models: PositiveInt = DeepmdTrainMaker.min_models
    """models that must succeed for a turn to go on"""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = DeepmdTrainMaker.validation_fraction
    """fraction of the frames held back from training, for good and by whole trajectories; of files
    20 frames in a row"""
    cores: PositiveInt = DeepmdTrainMaker.cores
    """cores of one training"""
    per_gpu: PositiveInt = DeepmdTrainMaker.per_gpu
    """trainings that run at the same time in one job, which share its GPU (by NVIDIA's MPS where it
    is installed)"""

    def for_production(self, production: Production, **changes: Any) -> Self:
        """Return the section that trains the potential at the end; see `TrainSection`."""
        steps = production.steps or self.steps
        warm_steps = steps if production.warm_start else None
        return super().for_production(production, steps=steps, warm_steps=warm_steps, **changes)

    def other_network(self, other: TrainSection) -> list[str]:
        """Return the keys in which two networks differ, so that none can start from the other."""
        return deepmd.other_network(self, other) if isinstance(other, DeepmdSection) else ["code"]

    @property
    def description(self) -> str:
        """What is trained, as a part of a sentence."""
        descriptor = self.model if isinstance(self.model, str) else self.model.get("type", "own")
        warm = f", then {self.warm_steps} from the last turn's" if self.warm_steps else ""
        return f"DeePMD models ({descriptor}, {self.steps} steps{warm})"
