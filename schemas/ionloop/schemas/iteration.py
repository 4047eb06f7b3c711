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

    conditions: list[ConditionCounts] = Field(
        [], description="verdict counts by temperature, pressure and composition"
    )
    n_trajectories: int = Field(0, description="trajectories that were asked for")
    n_finished: int = Field(0, description="trajectories that came to their end")
    n_lost: int = Field(0, description="trajectories of which nothing came back: a job failed")
    n_new_labels: int | None = Field(
        None, description="labels asked for, or still late, after the turn"
    )

    @property
    def finished_fraction(self) -> float:
        """Finished over all trajectories; 1 where they were not counted."""
        return self.n_finished / self.n_trajectories if self.n_trajectories else 1.0


class StageProgress(Model):
    """How the turns so far went, as far as decisions need it."""

    index: int = Field(0, description="turn of the run, counted from 0")
    stage: int = Field(0, description="stage, counted from 0")
    turn_of_stage: int = Field(0, description="turn within the stage, counted from 0")
    accurate_fractions: list[float] = Field(
        [], description="of the turns of this stage, over all conditions"
    )
    history: list[TurnCounts] = Field([], description="verdict counts of every turn of the run")
    notes: list[str] = Field([], description="what a reader of the run's results has to know")
    n_labels: int = Field(0, description="labels requested so far, initial data included")
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
    conditions: list[ConditionCounts] = Field(
        [], description="verdict counts by temperature, pressure and composition"
    )
    unfinished: list[Unfinished] = Field(
        [], description="trajectories that stopped early, with the reason"
    )
    accurate_fraction: float
    n_requested: int
    n_accepted: int
    rejected: dict[str, int]
    n_late: int = Field(0, description="labels still running when the quorum was in")
    n_training_frames: int
    train_errors: list[ForceErrors]
    validation_errors: list[ForceErrors]
    deviation_against_error: Table | None = Field(
        None,
        description="per new label: max_devi_f and the ensemble's true maximum force error, eV/Å",
    )
    new_label_errors: ForceErrors | None = Field(
        None, description="ensemble mean against the new labels, before training on them"
    )
    failures: list[str] = Field([])
    n_models: int | None = Field(None, description="models whose deviation was judged")
    n_models_asked: int | None = Field(None, description="models that were to be trained")
    notes: list[str] = Field([], description="what a reader of this turn's numbers has to know")
    rank_correlation: float | None = Field(
        None, description="Spearman correlation of deviation and true error of the new labels"
    )
    progress: StageProgress = Field(description="the run up to and including this turn")
    dataset: DatasetDoc
    labels: list[ByReference] = Field([], description="Labels of the data set, by reference")
    ensemble: ByReference = Field(None, description="EnsembleDoc of this turn, by reference")
    jobs: dict[str, str] = Field({}, description="step to job uuid")
    decision: Decision
