"""One turn of the loop: its cost, its results and the decision that followed."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from ionloop.schemas.dataset import DatasetDoc
from ionloop.schemas.document import ByReference, Document, Model
from ionloop.schemas.exploration import Unfinished
from ionloop.schemas.potential import ForceErrors
from ionloop.schemas.selection import ConditionCounts, VerdictCounts
from ionloop.schemas.table import Table
from ionloop.schemas.units import CoreHours, Temperature


class Action(StrEnum):
    """What follows a turn."""

    REPEAT = "repeat the stage"
    NEXT_STAGE = "next stage"
    CONVERGED = "converged"
    STOP = "stop"


class Decision(Model):
    """What follows a turn, with its reason in words."""

    action: Action
    reason: str


class TurnCounts(VerdictCounts):
    """What one turn found, as far as decisions need it."""

    conditions: list[ConditionCounts] = Field([])
    """verdict counts by temperature, pressure and composition"""
    n_trajectories: int = 0
    """trajectories that were asked for"""
    n_finished: int = 0
    """trajectories that came to their end"""
    n_lost: int = 0
    """trajectories of which nothing came back: a job failed"""
    n_new_labels: int | None = None
    """labels asked for, or still late, after the turn"""

    @property
    def finished_fraction(self) -> float:
        """Finished over all trajectories; 1 where they were not counted."""
        return self.n_finished / self.n_trajectories if self.n_trajectories else 1.0


class StageProgress(Model):
    """How the turns so far went, as far as decisions need it."""

    index: int = 0
    """turn of the run, counted from 0"""
    stage: int = 0
    """stage, counted from 0"""
    turn_of_stage: int = 0
    """turn within the stage, counted from 0"""
    accurate_fractions: list[float] = Field([])
    """of the turns of this stage, over all conditions"""
    history: list[TurnCounts] = Field([])
    """verdict counts of every turn of the run"""
    notes: list[str] = Field([])
    """what a reader of the run's results has to know"""
    n_labels: int = 0
    """labels requested so far, initial data included"""
    core_hours: CoreHours = 0.0

    @property
    def of_stage(self) -> list[TurnCounts]:
        """Counts of the turns of this stage."""
        return self.history[-(self.turn_of_stage + 1) :]


class IterationDoc(Document):
    """A turn of the loop."""

    stage: int
    turn_of_stage: int
    temperatures: list[Temperature]
    counts: VerdictCounts
    conditions: list[ConditionCounts] = Field([])
    """verdict counts by temperature, pressure and composition"""
    unfinished: list[Unfinished] = Field([])
    """trajectories that stopped early, with the reason"""
    accurate_fraction: float
    n_requested: int
    n_accepted: int
    rejected: dict[str, int]
    n_late: int = 0
    """labels still running when the quorum was in"""
    n_training_frames: int
    train_errors: list[ForceErrors]
    validation_errors: list[ForceErrors]
    deviation_against_error: Table | None = None
    """per new label: max_devi_f and the ensemble's true maximum force error, eV/Å"""
    new_label_errors: ForceErrors | None = None
    """ensemble mean against the new labels, before training on them"""
    failures: list[str] = Field([])
    n_models: int | None = None
    """models whose deviation was judged"""
    n_models_asked: int | None = None
    """models that were to be trained"""
    notes: list[str] = Field([])
    """what a reader of this turn's numbers has to know"""
    rank_correlation: float | None = None
    """Spearman correlation of deviation and true error of the new labels"""
    progress: StageProgress
    """the run up to and including this turn"""
    dataset: DatasetDoc
    labels: list[ByReference] = Field([])
    """Labels of the data set, by reference"""
    ensemble: ByReference = None
    """EnsembleDoc of this turn, by reference"""
    jobs: dict[str, str] = Field({})
    """step to job uuid"""
    decision: Decision
