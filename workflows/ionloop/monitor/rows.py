"""What queries answer with: small frozen models, one per line of a table."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from ionloop.schemas.document import Model
from ionloop.schemas.exploration import Unfinished
from ionloop.schemas.job import JobRow, JobState
from ionloop.schemas.label import LabelStatus, RejectReason
from ionloop.schemas.learning import Learning
from ionloop.schemas.run import RunState, SummaryDoc
from ionloop.schemas.selection import ConditionCounts, VerdictCounts
from ionloop.schemas.units import CoreHours, Energy, Seconds, Temperature


class Standing(Model):
    """Where a run stands, in words."""

    state: RunState
    sentence: str
    cure: str = ""
    """command that goes on with the run, if it needs one"""


class RunRow(Model):
    """A run in one line."""

    run: str
    started: datetime | None = None
    host: str | None = None
    standing: Standing
    n_turns: int = 0
    """finished turns"""
    n_labels: int = 0
    """labels requested: up to the last finished turn, in all once it has ended"""
    n_accepted: int = 0
    """of them accepted"""
    accurate_fraction: float | None = None
    """of the last finished turn"""
    core_hours: CoreHours = 0.0
    """up to the last finished turn, in all once it has ended"""


class TurnRow(Model):
    """A finished turn in one line."""

    turn: int
    """counted from 0"""
    stage: int
    """counted from 0"""
    temperatures: list[Temperature]
    counts: VerdictCounts
    conditions: list[ConditionCounts] = Field([])
    """verdict counts by temperature, pressure and composition"""
    unfinished: list[Unfinished] = Field([])
    """trajectories that stopped early, with the reason"""
    n_requested: int
    """labels asked for"""
    n_accepted: int
    rejected: dict[str, int]
    """rejected labels by reason"""
    n_late: int = 0
    """labels still running when the quorum was in"""
    n_training_frames: int
    """frames in the data set after the turn"""
    train_rmse: float | None = Field(json_schema_extra={"unit": "meV/Å"})
    """force error on training frames, mean over the models"""
    validation_rmse: float | None = Field(json_schema_extra={"unit": "meV/Å"})
    """force error on frames held back, mean over the models"""
    new_label_rmse: float | None = Field(json_schema_extra={"unit": "meV/Å"})
    """force error of the ensemble mean on the new labels, before training on them"""
    new_label_rms: float | None = Field(json_schema_extra={"unit": "meV/Å"})
    """the new labels' own force RMS"""
    learning: Learning | None = None
    """what limits the error of the models"""
    rank_correlation: float | None
    """Spearman correlation of deviation and true error of the new labels"""
    core_hours: CoreHours
    """spent on the turn; the first has the initial data"""
    wall_seconds: Seconds | None
    """first start to last end of its jobs, interruptions included"""
    action: str
    """what was decided"""
    reason: str
    failures: list[str]
    notes: list[str] = Field([])
    """such as mixed levels of theory"""

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Accurate, candidate and failed over judged frames; zeros when nothing was judged."""
        counts, judged = self.counts, self.counts.judged or 1
        return (counts.accurate / judged, counts.candidate / judged, counts.failed / judged)


class JobsOverview(Model):
    """The jobs of a run."""

    counts: dict[str, dict[str, int]]
    """role to state to number of jobs"""
    rows: list[JobRow] = Field([])
    """all of them, in order"""

    @property
    def running(self) -> list[JobRow]:
        """Those that run."""
        return [row for row in self.rows if row.state is JobState.RUNNING]

    @property
    def failed(self) -> list[JobRow]:
        """Those that failed."""
        return [row for row in self.rows if row.state is JobState.FAILED]

    @property
    def by_state(self) -> dict[str, int]:
        """Number of jobs by state, over all roles."""
        return dict(Counter(row.state.value for row in self.rows))


class RunStatus(RunRow):
    """A run turn by turn."""

    turns: list[TurnRow]
    jobs: JobsOverview
    summary: SummaryDoc | None = None


class LabelRow(Model):
    """A label without its frame."""

    label_id: str
    frame_id: str
    level: str
    level_words: str = ""
    status: LabelStatus
    reason: RejectReason | None = None
    detail: str = ""
    energy: Energy | None = None
    species: list[str]
    n_atoms: int
    seconds: Seconds = 0.0
    iteration: int | None = None


class Found(Model):
    """One stored thing, found by its key."""

    kind: Literal["run", "job", "label", "frame"]
    key: str
    content: dict[str, Any]
