"""One turn of the loop: what it cost, what it found and what was decided."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from ionloop.schemas.dataset import DatasetDoc
from ionloop.schemas.document import ByReference, Document, Model
from ionloop.schemas.potential import ForceErrors
from ionloop.schemas.selection import VerdictCounts
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


class StageProgress(Model):
    """How the turns so far went, as far as decisions need it."""

    index: int = Field(0, description="turn of the run, counted from 0")
    stage: int = Field(0, description="stage, counted from 0")
    turn_of_stage: int = Field(0, description="turn within the stage, counted from 0")
    accurate_fractions: list[float] = Field(
        default_factory=list, description="of the turns of this stage"
    )
    history: list[VerdictCounts] = Field(
        default_factory=list, description="verdict counts of every turn of the run"
    )
    n_labels: int = Field(0, description="labels requested so far, initial data included")
    core_hours: CoreHours = 0.0


class IterationDoc(Document):
    """A turn of the loop."""

    stage: int
    turn_of_stage: int
    temperatures: list[Temperature]
    counts: VerdictCounts
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
    failures: list[str] = Field(default_factory=list)
    rank_correlation: float | None = Field(
        None, description="Spearman correlation of deviation and true error of the new labels"
    )
    progress: StageProgress = Field(description="the run up to and including this turn")
    dataset: DatasetDoc
    labels: list[ByReference] = Field(
        default_factory=list, description="Labels of the data set, by reference"
    )
    ensemble: ByReference = Field(None, description="EnsembleDoc of this turn, by reference")
    jobs: dict[str, str] = Field(default_factory=dict, description="step to job uuid")
    decision: Decision
