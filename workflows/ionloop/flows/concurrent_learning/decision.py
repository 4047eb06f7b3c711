"""What follows a turn: a pure function of how the turns went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt

from ionloop.schemas.document import Model
from ionloop.schemas.exploration import MOST, Stage
from ionloop.schemas.iteration import Action, Decision, StageProgress, TurnCounts
from ionloop.schemas.selection import ConditionCounts, VerdictCounts


class Convergence(Model):
    """When a stage counts as converged."""

    accurate_fraction: float = Field(0.98, gt=0, le=1)
    """smallest fraction of accurate frames in every condition (temperature, pressure, composition),
    frames that never came counted as failed"""
    finished_fraction: float = Field(0.95, ge=0, le=1)
    """smallest fraction of trajectories that come to their end"""
    min_frames: PositiveInt = 50
    """frames with which a condition is judged by itself; those with fewer are judged together"""
    pooled: bool = False
    """judge the frames of all conditions as one, not the worst condition"""
    turns: PositiveInt = Field(1, le=MOST)
    """consecutive turns that must reach it"""


class Limits(Model):
    """Where the loop stops, converged or not."""

    max_turns: PositiveInt | None = None
    """turns of the whole run"""
    max_labels: PositiveInt | None = None
    """labels of the whole run, initial data and validation included"""
    max_core_hours: PositiveFloat | None = None
    """core hours of labelling, training and exploration"""


class Judged(NamedTuple):
    """Frames that are judged as one.

    Parameters
    ----------
    name
        Description of the frames.
    counts
        Their verdicts.
    """

    name: str
    counts: VerdictCounts


def decide(
    progress: StageProgress,
    stages: Sequence[Stage],
    convergence: Convergence,
    limits: Limits,
    reserved_labels: int = 0,
) -> Decision:
    """Decide what follows a turn.

    Parameters
    ----------
    progress
        The turns so far, the one just finished included.
    stages
        All stages in order.
    convergence
        When a stage is converged.
    limits
        When the loop stops all the same.
    reserved_labels
        Labels kept for the validation.

    Returns
    -------
    Decision
        After a converged stage the next one begins; after the last one the loop ends. The same
        holds for a stage that has used all its turns, or that found nothing to label although it
        lost no job and would train on the same data again; if it is the last one, the loop then
        stops unconverged.
    """
    is_last = progress.stage == len(stages) - 1
    number, last = progress.stage + 1, progress.of_stage[-1]
    lowest = worst(last, convergence)
    if is_converged(progress, convergence):
        reason = (
            f"accurate fraction {_fraction(lowest)} reached {convergence.accurate_fraction} in the "
            f"last {convergence.turns} turn(s) of stage {number}{_scarce(last, convergence)}"
        )
        return Decision(action=Action.CONVERGED if is_last else Action.NEXT_STAGE, reason=reason)
    if (spent := spent_limit(progress, limits, reserved_labels)) is not None:
        return Decision(action=Action.STOP, reason=spent)
    lacking = shortfall(last, convergence)
    over = Action.STOP if is_last else Action.NEXT_STAGE
    if lacking and last.n_new_labels == 0 and not last.n_lost:
        reason = (
            f"{lacking}; {_nothing_new(last)}: stage {number} ends unconverged, since training on "
            "the same data again would not help"
        )
        return Decision(action=over, reason=reason)
    if progress.turn_of_stage + 1 >= stages[progress.stage].max_turns:
        reason = (
            f"stage {number} is not converged after its {stages[progress.stage].max_turns} turns "
            f"(stages.max_turns): {lacking or _not_held(convergence)}"
        )
        return Decision(action=over, reason=reason)
    return Decision(action=Action.REPEAT, reason=lacking or _not_held(convergence))


def is_converged(progress: StageProgress, convergence: Convergence) -> bool:
    """Tell whether the last turns of the stage all reached what convergence asks for.

    Parameters
    ----------
    progress
        The turns so far.
    convergence
        When a stage is converged.
    """
    last = progress.of_stage[-convergence.turns :]
    return len(last) == convergence.turns and not any(shortfall(t, convergence) for t in last)


def shortfall(turn: TurnCounts, convergence: Convergence) -> str:
    """Say what a turn lacks to be converged; "" if nothing.

    Parameters
    ----------
    turn
        Verdicts and trajectories of the turn.
    convergence
        When a stage is converged.
    """
    lowest = worst(turn, convergence)
    lacks = []
    if lowest.counts.accurate_fraction < convergence.accurate_fraction:
        lacks.append(
            f"accurate fraction {_fraction(lowest)} is below {convergence.accurate_fraction}"
            f"{_scarce(turn, convergence)}"
        )
    if turn.finished_fraction < convergence.finished_fraction:
        lacks.append(
            f"{turn.n_finished} of {turn.n_trajectories} trajectories came to their end, fewer "
            f"than {convergence.finished_fraction:.0%} (convergence.finished_fraction)"
        )
    return "; ".join(lacks)


def worst(turn: TurnCounts, convergence: Convergence) -> Judged:
    """Return the least accurate frames of a turn among those that are judged as one.

    Parameters
    ----------
    turn
        Verdicts of the turn.
    convergence
        Which frames are judged as one.
    """
    return min(judged(turn, convergence), key=lambda each: each.counts.accurate_fraction)


def judged(turn: TurnCounts, convergence: Convergence) -> list[Judged]:
    """Divide a turn into the frames that are judged as one.

    Every condition with enough frames is judged by itself, those with fewer frames together. A
    turn whose conditions were not stored, or are not asked for, is judged as a whole.

    Parameters
    ----------
    turn
        Verdicts of the turn.
    convergence
        Which frames are judged as one.
    """
    if convergence.pooled or len(turn.conditions) < 2:
        return [Judged("", turn)]
    many = [each for each in turn.conditions if each.judged >= convergence.min_frames]
    few = scarce(turn, convergence)
    together = [Judged("the conditions with few frames", _sum(few))] if few else []
    return [*(Judged(_name(each, turn.conditions), each) for each in many), *together]


def scarce(turn: TurnCounts, convergence: Convergence) -> list[ConditionCounts]:
    """Return the conditions that have too few frames to be judged by themselves.

    Parameters
    ----------
    turn
        Verdicts of the turn.
    convergence
        How many frames are enough.
    """
    return [each for each in turn.conditions if each.judged < convergence.min_frames]


def spent_limit(progress: StageProgress, limits: Limits, reserved_labels: int) -> str | None:
    """Return a sentence on the first limit that is reached, or None.

    Parameters
    ----------
    progress
        The turns so far.
    limits
        The limits.
    reserved_labels
        Labels kept for the validation.
    """
    if limits.max_turns is not None and progress.index + 1 >= limits.max_turns:
        return f"the limit of {limits.max_turns} turns (limits.max_turns) is reached"
    if labels_left(progress.n_labels, limits, reserved_labels) == 0:
        return (
            f"{progress.n_labels} labels are spent and {reserved_labels} kept for validation; "
            f"the limit is {limits.max_labels} (limits.max_labels)"
        )
    if limits.max_core_hours is not None and progress.core_hours >= limits.max_core_hours:
        return (
            f"{progress.core_hours:.2f} core hours are spent; the limit is "
            f"{limits.max_core_hours} (limits.max_core_hours)"
        )
    return None


def labels_left(n_labels: int, limits: Limits, reserved_labels: int) -> int | None:
    """Return how many labels the loop may still ask for; None if there is no limit.

    Parameters
    ----------
    n_labels
        Labels so far.
    limits
        The limits.
    reserved_labels
        Labels kept for the validation.
    """
    if limits.max_labels is None:
        return None
    return max(0, limits.max_labels - reserved_labels - n_labels)


def next_progress(progress: StageProgress, action: Action) -> StageProgress:
    """Return the progress with which the next turn begins.

    Parameters
    ----------
    progress
        The turns so far.
    action
        What follows the last of them.
    """
    if action is Action.NEXT_STAGE:
        moved = {"stage": progress.stage + 1, "turn_of_stage": 0, "accurate_fractions": []}
    else:
        moved = {"turn_of_stage": progress.turn_of_stage + 1}
    return progress.model_copy(update={"index": progress.index + 1, **moved})


def _sum(conditions: Sequence[ConditionCounts]) -> VerdictCounts:
    words = VerdictCounts.model_fields
    return VerdictCounts(**{word: sum(getattr(c, word) for c in conditions) for word in words})


def _name(condition: ConditionCounts, conditions: Sequence[ConditionCounts]) -> str:
    """Name a condition by its temperature, and by what else tells it from the others."""
    words = [f"{condition.temperature:g} K"]
    if len({each.pressure for each in conditions}) > 1:
        words.append(f"{condition.pressure:g} bar")
    if len({each.composition for each in conditions}) > 1:
        words.append(condition.composition)
    return ", ".join(words)


def _fraction(lowest: Judged) -> str:
    fraction = f"{lowest.counts.accurate_fraction:.3f}"
    return f"{fraction} (the lowest: {lowest.name})" if lowest.name else fraction


def _scarce(turn: TurnCounts, convergence: Convergence) -> str:
    few = scarce(turn, convergence)
    if not few:
        return ""
    frames = sum(each.judged for each in few)
    together = "" if convergence.pooled else ", judged together"
    return (
        f"; {len(few)} of {len(turn.conditions)} conditions have fewer than "
        f"{convergence.min_frames} frames (convergence.min_frames){together}: {frames} frames"
    )


def _nothing_new(turn: TurnCounts) -> str:
    if turn.candidate:
        return f"none of {turn.candidate} candidates is new"
    cure = " (raise trust.high, make the stage gentler or begin with more data)"
    found = f"no candidate among {turn.judged} frames, {turn.failed} of them failed"
    return f"{found}{cure if turn.failed else ''}"


def _not_held(convergence: Convergence) -> str:
    return f"converged in this turn, but not yet for {convergence.turns} turns (convergence.turns)"
