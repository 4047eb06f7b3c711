"""A run: its run file and its summary."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from ionloop.schemas.distillation import DistillationDoc
from ionloop.schemas.document import Document, Model
from ionloop.schemas.exploration import Stage, Unfinished
from ionloop.schemas.iteration import TurnCounts
from ionloop.schemas.potential import ForceErrors
from ionloop.schemas.units import CoreHours, Seconds, Temperature

WAITING = "WaitingForLabelsError"
"""Name of the error that pauses a run until labels are imported."""


class RunState(StrEnum):
    """State of a run."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Change(Model):
    """A key of the run file that was changed while the run was under way."""

    time: datetime
    key: str
    """its path, such as label.floor"""
    before: Any = None
    after: Any = None

    @property
    def description(self) -> str:
        """The change as a text, such as ``label.floor: 0.9 → 0.8``."""
        before, after = ("none" if each is None else each for each in (self.before, self.after))
        return f"{self.key}: {before} → {after}"


class RunDoc(Document):
    """A run."""

    run: str
    name: str
    run_file: dict[str, Any]
    """as it is in force now"""
    started: datetime
    state: RunState
    host: str
    runner: dict[str, Any] | None = None
    """the process that runs it now"""
    changes: list[Change] = Field([])
    """what was changed in the run file since it began"""


def engine_name(record: Mapping[str, Any]) -> str:
    """Return the name of the engine of a run, by its stored record: local, fireworks or remote."""
    name: str = (record.get("run_file") or {}).get("runner", "local")
    return name


class ValidationDoc(Document):
    """Errors of the production potential on frames it has never seen."""

    errors: ForceErrors
    """of the potential; of several, of the worst"""
    models: list[ForceErrors] = Field([])
    """of each production model, in their order"""
    teacher: ForceErrors | None = None
    """of the mean of the ensemble that taught it, on the same frames; none: it had no teacher"""
    temperatures: list[Temperature]
    """of the frames"""
    stage: Stage | None = None
    """conditions of the validation MD"""
    n_trajectories: int | None = None
    """trajectories of the validation MD"""
    n_unfinished: int = 0
    """trajectories that stopped early"""
    n_requested: int
    n_accepted: int
    core_seconds: Seconds = 0.0

    @property
    def which(self) -> str:
        """Which model the errors are of, as a part of a sentence; empty where there is one."""
        return f" (the worst of {len(self.models)} models)" if len(self.models) > 1 else ""


class SummaryDoc(Document):
    """The end of a run, readable on its own."""

    converged: bool
    reason: str
    n_turns: int
    n_labels: int
    """labels requested, validation included"""
    n_accepted: int
    accurate_fractions: list[float]
    counts: list[TurnCounts]
    unfinished: list[Unfinished] = Field([])
    """trajectories of the last turn that stopped early, with the reason"""
    core_hours: CoreHours
    potential: Any
    """the production potential, by reference"""
    train_errors: list[ForceErrors] = Field([])
    """of each production model on the frames that it was trained on"""
    validation_errors: list[ForceErrors] = Field([])
    """of each production model on labels held back; empty where it was trained on all"""
    validation: ValidationDoc | None = None
    distillation: DistillationDoc | None = None
    """how the last ensemble taught the potential; none: it was trained on labels alone"""
    notes: list[str] = Field([])
    """what a reader of the results has to know"""
