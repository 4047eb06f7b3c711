"""The result of a turn, as stored documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ionloop.schemas.dataset import STRETCH, DatasetDoc, dataset_hash, held_back
from ionloop.schemas.distillation import DistillationDoc
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import ExplorationDoc
from ionloop.schemas.iteration import Decision, IterationDoc, StageProgress, TurnCounts
from ionloop.schemas.label import Labels, at_todays_levels
from ionloop.schemas.potential import EnsembleDoc, EvaluationDoc
from ionloop.schemas.selection import SelectionDoc


@dataclass(frozen=True)
class TurnResults:
    """What the steps of one turn gave.

    Attributes
    ----------
    joined
        Labels that were late for turns before and joined this one.
    late
        Labels that were late for the last turn and joined before it was concluded.
    """

    ensemble: EnsembleDoc
    exploration: ExplorationDoc
    selection: SelectionDoc
    labels: Labels
    evaluation: EvaluationDoc
    joined: Labels | None = None
    late: Labels | None = None

    @property
    def core_seconds(self) -> float:
        """What the turn cost, core seconds."""
        parts = [self.ensemble, self.exploration, self.labels, self.joined, self.late]
        return sum(part.core_seconds for part in parts if part is not None)


def after_turn(progress: StageProgress, turn: TurnResults, n_late: int = 0) -> StageProgress:
    """Return the progress with a finished turn counted in.

    Parameters
    ----------
    progress
        The turns before.
    turn
        What the turn gave.
    n_late
        Labels that are still to come.
    """
    counts = TurnCounts(
        **turn.selection.counts.model_dump(),
        conditions=turn.selection.conditions,
        n_trajectories=len(turn.exploration.trajectories),
        n_finished=turn.exploration.n_finished,
        n_lost=turn.exploration.n_lost,
        n_new_labels=turn.labels.n_requested + n_late,
    )
    few = few_models(turn.ensemble)
    notes = [f"turn {progress.index}: {few}"] if few else []
    return progress.model_copy(
        update={
            "notes": [*progress.notes, *notes],
            "accurate_fractions": [*progress.accurate_fractions, counts.accurate_fraction],
            "history": [*progress.history, counts],
            "n_labels": progress.n_labels + turn.labels.n_requested,
            "core_hours": progress.core_hours + turn.core_seconds / 3600,
        }
    )


def few_models(ensemble: EnsembleDoc) -> str:
    """Return a sentence if the ensemble has fewer models than were asked for; otherwise ""."""
    n, asked = len(ensemble.members), ensemble.n_asked
    return "" if n == asked else f"model deviations are of {n} models, {asked} were asked for"


def of_potential(potential: EnsembleDoc, dataset: DatasetDoc) -> list[str]:
    """Return what readers of the production training's errors must know.

    Parameters
    ----------
    potential
        The models of the production training.
    dataset
        What they were trained on.
    """
    notes = [*potential.notes, *potential.failures]
    if dataset.validation and not potential.validation_errors:
        notes.append("it was trained on the held-back frames too and has no held-back error")
    return [f"production: {note}" for note in notes]


def of_distillation(distillation: DistillationDoc | None) -> list[str]:
    """Return what readers must know of a distillation that did not reach what it was to reach.

    Parameters
    ----------
    distillation
        What came of it, if there was one.
    """
    if distillation is None or distillation.reached:
        return []
    return [f"distillation: the students did not come near enough: {distillation.reason}"]


def iteration_document(
    turn: TurnResults,
    progress: StageProgress,
    decision: Decision,
    dataset: Sequence[Labels],
    validation_fraction: float,
    allow_mixed: bool = False,
) -> IterationDoc:
    """Describe a turn.

    Parameters
    ----------
    turn
        What its steps gave.
    progress
        The turns so far, with this one.
    decision
        What follows.
    dataset
        All labels so far.
    validation_fraction
        Fraction of the frames held back from training.
    allow_mixed
        Whether labels of several levels of theory may come together.
    """
    counts = turn.selection.counts
    return IterationDoc(
        stage=progress.stage,
        turn_of_stage=progress.turn_of_stage,
        temperatures=turn.exploration.stage.temperatures,
        counts=counts,
        conditions=turn.selection.conditions,
        unfinished=turn.exploration.unfinished,
        accurate_fraction=counts.accurate_fraction,
        n_requested=turn.labels.n_requested,
        n_accepted=turn.labels.n_accepted,
        rejected=turn.labels.rejected_by_reason,
        n_late=len(turn.labels.late),
        n_training_frames=sum(labels.n_accepted for labels in dataset),
        train_errors=turn.ensemble.train_errors,
        validation_errors=turn.ensemble.validation_errors,
        new_label_errors=turn.evaluation.errors,
        deviation_against_error=turn.evaluation.deviation_against_error,
        rank_correlation=turn.evaluation.rank_correlation,
        failures=[*turn.ensemble.failures, *turn.exploration.failures],
        n_models=len(turn.ensemble.members),
        n_models_asked=turn.ensemble.n_asked,
        notes=[*filter(None, [few_models(turn.ensemble)]), *turn.ensemble.notes],
        progress=progress,
        dataset=dataset_document(dataset, validation_fraction, allow_mixed),
        decision=decision,
    )


def dataset_document(
    dataset: Sequence[Labels], validation_fraction: float, allow_mixed: bool = False
) -> DatasetDoc:
    """Describe the data set: ids, split, hash.

    Parameters
    ----------
    dataset
        All labels so far.
    validation_fraction
        Fraction of the frames held back from training.
    allow_mixed
        Whether labels of several levels of theory may come together.

    Raises
    ------
    ValueError
        If labels of two levels of theory come together and that is not allowed.
    """
    dataset = at_todays_levels(dataset)
    levels = {labels.level.hash: labels.level.description for labels in dataset}
    words = " and ".join(levels.values())
    if len(levels) > 1 and not allow_mixed:
        raise InputError(
            f"a data set has one level of theory, got {words}; set initial.allow_mixed to train "
            "on them together"
        )
    frames = [part for labels in dataset for part in labels.frames]
    ids = [frame_id for part in frames for frame_id in part.ids]
    held = held_back(frames, validation_fraction)
    level = "+".join(sorted(levels))
    mixed = f"labels of {len(levels)} levels of theory are mixed (initial.allow_mixed): {words}"
    share = split_note(len(held), len(set(ids)), validation_fraction)
    return DatasetDoc(
        level=level,
        notes=[
            *filter(None, [mixed if len(levels) > 1 else "", share]),
            *dict.fromkeys(note for labels in dataset for note in labels.notes),
        ],
        training=sorted(set(ids) - held),
        validation=sorted(held),
        sha256=dataset_hash(level, ids),
    )


def split_note(n_held: int, n_frames: int, fraction: float) -> str:
    """Return a sentence if much more or less is held back than was asked for; otherwise "".

    Parameters
    ----------
    n_held
        Frames that are held back.
    n_frames
        All frames.
    fraction
        Fraction that was asked for.
    """
    asked = f"train.validation_fraction asks for {fraction:.0%}, by whole trajectories"
    if fraction * n_frames >= 3 and not n_held:  # by chance in 5 % of the cases, frame by frame
        return f"no frame is held back, so that no training has an error on such ({asked})"
    if n_held > max(3 * fraction * n_frames, STRETCH):
        return f"{n_held} of {n_frames} frames are held back from training ({asked})"
    return ""
