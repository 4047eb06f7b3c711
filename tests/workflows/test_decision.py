from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ionloop.schemas.exploration import Stage
from ionloop.schemas.iteration import Action, StageProgress
from ionloop.workflows.decision import Convergence, Limits, decide, labels_left, next_progress

STAGES = [
    Stage(temperatures=[300.0], steps=100, max_turns=3),
    Stage(temperatures=[300.0, 900.0], steps=100, max_turns=3),
]


def progress(**fields: object) -> StageProgress:
    return StageProgress(**{"accurate_fractions": [0.5], **fields})  # type: ignore[arg-type]


def action(p: StageProgress, convergence: Convergence | None = None, **limits: float) -> Action:
    return decide(p, STAGES, convergence or Convergence(), Limits(**limits)).action  # type: ignore[arg-type]


def test_repeats_until_converged() -> None:
    assert action(progress()) is Action.REPEAT


def test_converged_stage_goes_on_to_the_next() -> None:
    assert action(progress(accurate_fractions=[0.2, 0.99])) is Action.NEXT_STAGE


def test_converged_last_stage_ends_the_loop() -> None:
    assert action(progress(stage=1, accurate_fractions=[0.99])) is Action.CONVERGED


def test_spent_turns_go_on_and_at_the_end_stop() -> None:
    assert action(progress(turn_of_stage=2)) is Action.NEXT_STAGE
    assert action(progress(stage=1, turn_of_stage=2)) is Action.STOP


def test_one_good_turn_is_not_two() -> None:
    two = Convergence(accurate_fraction=0.9, turns=2)
    assert action(progress(stage=1, accurate_fractions=[0.95]), two) is Action.REPEAT
    assert action(progress(stage=1, accurate_fractions=[0.95, 0.8]), two) is Action.REPEAT
    assert action(progress(stage=1, accurate_fractions=[0.9, 0.95]), two) is Action.CONVERGED


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"max_turns": 1}, "limits.max_turns"),
        ({"max_labels": 50}, "limits.max_labels"),
        ({"max_core_hours": 1.0}, "limits.max_core_hours"),
    ],
)
def test_every_limit_stops_with_its_name(limits: dict[str, float], word: str) -> None:
    spent = progress(n_labels=50, core_hours=2.0)
    decision = decide(spent, STAGES, Convergence(), Limits(**limits))  # type: ignore[arg-type]
    assert decision.action is Action.STOP
    assert word in decision.reason


def test_labels_are_kept_for_the_validation() -> None:
    limits = Limits(max_labels=100)
    assert labels_left(60, limits, reserved_labels=30) == 10
    assert labels_left(80, limits, reserved_labels=30) == 0
    assert labels_left(80, Limits(), reserved_labels=30) is None


@given(fractions=st.lists(st.floats(0, 1), min_size=60, max_size=60))
def test_every_sequence_of_turns_ends(fractions: list[float]) -> None:
    p = StageProgress()
    for fraction in fractions:
        p = p.model_copy(update={"accurate_fractions": [*p.accurate_fractions, fraction]})
        what = decide(p, STAGES, Convergence(), Limits()).action
        if what in (Action.CONVERGED, Action.STOP):
            break
        p = next_progress(p, what)
    assert what in (Action.CONVERGED, Action.STOP)
    assert p.index < sum(stage.max_turns for stage in STAGES)
