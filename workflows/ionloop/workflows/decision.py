"""What follows a turn: a pure function of how the turns went."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, PositiveFloat, PositiveInt

from ionloop.schemas.document import Model
from ionloop.schemas.exploration import Stage
from ionloop.schemas.iteration import Action, Decision, StageProgress


class Convergence(Model):
    """When a stage counts as converged."""

    accurate_fraction: float = Field(
        0.98, gt=0, le=1, description="smallest fraction of accurate frames"
    )
    turns: PositiveInt = Field(1, description="consecutive turns that must reach it")


class Limits(Model):
    """Where the loop stops, converged or not."""

    max_turns: PositiveInt | None = Field(None, description="turns of the whole run")
    max_labels: PositiveInt | None = Field(
        None, description="labels of the whole run, initial data and validation included"
    )
    max_core_hours: PositiveFloat | None = Field(
        None, description="core hours of labelling, training and exploration"
    )


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
        Converged stages go on to the next, the last one ends the loop; a stage that has spent
        its turns goes on too, and the last one then stops the loop unconverged.
    """
    is_last = progress.stage == len(stages) - 1
    if is_converged(progress, convergence):
        fractions = ", ".join(f"{x:.3f}" for x in progress.accurate_fractions[-convergence.turns :])
        reason = (
            f"accurate fraction {fractions} reached {convergence.accurate_fraction} in the last "
            f"{convergence.turns} turn(s) of stage {progress.stage + 1}"
        )
        return Decision(action=Action.CONVERGED if is_last else Action.NEXT_STAGE, reason=reason)
    if (spent := spent_limit(progress, limits, reserved_labels)) is not None:
        return Decision(action=Action.STOP, reason=spent)
    if progress.turn_of_stage + 1 >= stages[progress.stage].max_turns:
        reason = (
            f"stage {progress.stage + 1} is not converged after its "
            f"{stages[progress.stage].max_turns} turns (stages.max_turns)"
        )
        return Decision(action=Action.STOP if is_last else Action.NEXT_STAGE, reason=reason)
    reason = (
        f"accurate fraction {progress.accurate_fractions[-1]:.3f} is below "
        f"{convergence.accurate_fraction} or not yet held for {convergence.turns} turn(s)"
    )
    return Decision(action=Action.REPEAT, reason=reason)


def is_converged(progress: StageProgress, convergence: Convergence) -> bool:
    """Tell whether the last turns of the stage all reached the accurate fraction."""
    last = progress.accurate_fractions[-convergence.turns :]
    return len(last) == convergence.turns and min(last) >= convergence.accurate_fraction


def spent_limit(progress: StageProgress, limits: Limits, reserved_labels: int) -> str | None:
    """Return a sentence on the first limit that is spent, or None."""
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
    """Return how many labels the loop may still ask for, or None without a limit."""
    if limits.max_labels is None:
        return None
    return max(0, limits.max_labels - reserved_labels - n_labels)


def next_progress(progress: StageProgress, action: Action) -> StageProgress:
    """Return the progress with which the next turn begins."""
    if action is Action.NEXT_STAGE:
        moved = {"stage": progress.stage + 1, "turn_of_stage": 0, "accurate_fractions": []}
    else:
        moved = {"turn_of_stage": progress.turn_of_stage + 1}
    return progress.model_copy(update={"index": progress.index + 1, **moved})
