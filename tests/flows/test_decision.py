from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ionloop.flows.concurrent_learning.decision import (
    Convergence,
    Limits,
    decide,
    judged,
    labels_left,
    next_progress,
    worst,
)
from ionloop.schemas.exploration import Stage
from ionloop.schemas.iteration import Action, Decision, StageProgress, TurnCounts
from ionloop.schemas.selection import ConditionCounts, VerdictCounts

STAGES = [
    Stage(temperatures=[300.0], steps=100, max_turns=3),
    Stage(temperatures=[300.0, 900.0], steps=100, max_turns=3),
]


def turn(*fractions: float, n: int = 1000, **fields: object) -> TurnCounts:
    """Return a turn of so many systems, n frames each, with these accurate fractions."""
    conditions = [
        ConditionCounts(
            temperature=300.0,
            pressure=1.0,
            composition=f"Li{number + 1}",
            accurate=round(fraction * n),
            candidate=n - round(fraction * n),
        )
        for number, fraction in enumerate(fractions)
    ]
    accurate = sum(each.accurate for each in conditions)
    found = {"accurate": accurate, "candidate": n * len(fractions) - accurate}
    return TurnCounts(**{**found, "conditions": conditions, **fields})


def progress(*turns: TurnCounts, **fields: object) -> StageProgress:
    history = list(turns or [turn(0.5)])
    return StageProgress(**{"history": history, "turn_of_stage": len(history) - 1, **fields})


def decision(p: StageProgress, **convergence: object) -> Decision:
    return decide(p, STAGES, Convergence(**convergence), Limits())


def last(*fractions: float, n: int = 1000, **fields: object) -> StageProgress:
    return progress(turn(*fractions, n=n, **fields), stage=1)


def test_repeats_until_converged() -> None:
    assert decision(progress()).action is Action.REPEAT


def test_converged_stage_goes_on_to_the_next() -> None:
    assert decision(progress(turn(0.2), turn(0.99))).action is Action.NEXT_STAGE


def test_converged_last_stage_ends_the_loop() -> None:
    assert decision(last(0.99)).action is Action.CONVERGED


def test_spent_turns_go_on_and_at_the_end_stop() -> None:
    spent = [turn(0.5)] * 3
    assert decision(progress(*spent)).action is Action.NEXT_STAGE
    assert decision(progress(*spent, stage=1)).action is Action.STOP


def test_one_good_turn_is_not_two() -> None:
    two = {"accurate_fraction": 0.9, "turns": 2}
    again = decision(last(0.95, n_new_labels=0), **two)
    assert (again.action, "not yet for 2 turns" in again.reason) == (Action.REPEAT, True)
    # Turns of the stage before do not count.
    assert (
        decision(progress(turn(0.95), turn(0.95), stage=1, turn_of_stage=0), **two).action
        is Action.REPEAT
    )
    assert decision(progress(turn(0.95), turn(0.8), stage=1), **two).action is Action.REPEAT
    assert decision(progress(turn(0.9), turn(0.95), stage=1), **two).action is Action.CONVERGED


def test_one_bad_system_of_five_holds_the_stage_back() -> None:
    five = last(1.0, 1.0, 0.92, 1.0, 1.0)
    assert five.history[0].accurate_fraction == pytest.approx(0.984)
    held = decision(five)
    assert held.action is Action.REPEAT
    assert held.reason == "accurate fraction 0.920 (the lowest: 300 K, Li3) is below 0.98"
    assert decision(five, pooled=True).action is Action.CONVERGED


def test_a_condition_is_named_by_what_tells_it_apart() -> None:
    counts = {"accurate": 90, "candidate": 10, "composition": "LiF"}
    hot, cold = (ConditionCounts(temperature=t, pressure=1.0, **counts) for t in (900.0, 300.0))
    pressed = hot.model_copy(update={"pressure": 5000.0})
    names = [each.name for each in judged(TurnCounts(conditions=[hot, cold]), Convergence())]
    assert names == ["900 K", "300 K"]
    names = [each.name for each in judged(TurnCounts(conditions=[hot, pressed]), Convergence())]
    assert names == ["900 K, 1 bar", "900 K, 5000 bar"]


def test_too_few_frames_are_judged_together_and_said() -> None:
    small = turn(1.0, 1.0, 0.5, n=10)
    large = turn(1.0, n=1000)
    together = small.model_copy(update={"conditions": [*large.conditions, *small.conditions]})
    held = decision(progress(together, stage=1))
    assert held.action is Action.REPEAT
    assert held.reason.startswith("accurate fraction 0.833 (the lowest: the conditions with few")
    assert "3 of 4 conditions have fewer than 50 frames (convergence.min_frames)" in held.reason
    good = decision(last(1.0, 1.0, n=10))
    assert good.action is Action.CONVERGED
    assert "2 of 2 conditions have fewer than 50 frames" in good.reason


def test_a_stage_with_unfinished_trajectories_is_not_converged() -> None:
    counts = {"n_trajectories": 100, "n_finished": 60}
    held = decision(last(1.0, **counts))
    assert held.action is Action.REPEAT
    assert held.reason.startswith("60 of 100 trajectories came to their end, fewer than 95%")
    assert decision(last(1.0, **counts), finished_fraction=0.5).action is Action.CONVERGED


def test_nothing_to_label_ends_the_stage_with_the_reason() -> None:
    frames = {"candidate": 0, "failed": 500, "n_new_labels": 0}
    ended = decision(last(0.5, **frames))
    assert ended.action is Action.STOP
    assert "no candidate among 1000 frames, 500 of them failed (raise trust.high" in ended.reason
    assert decision(progress(turn(0.5, **frames))).action is Action.NEXT_STAGE
    known = decision(last(0.5, n_new_labels=0))
    assert "none of 500 candidates is new" in known.reason
    # A trajectory whose job failed may come to its end in the next turn.
    assert decision(last(0.5, **frames | {"n_lost": 1})).action is Action.REPEAT
    # Labels that are still calculated will change the data.
    assert decision(last(0.5, **frames | {"n_new_labels": 1})).action is Action.REPEAT


def test_turns_of_an_older_version_are_judged_as_a_whole() -> None:
    old = StageProgress(
        history=[{"accurate": 99, "candidate": 1, "failed": 0, "skipped": 5}],
        accurate_fractions=[0.99],
        stage=1,
    )
    assert decision(old).action is Action.CONVERGED


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
    decision = decide(spent, STAGES, Convergence(), Limits(**limits))
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
        p = p.model_copy(update={"history": [*p.history, turn(fraction)]})
        what = decide(p, STAGES, Convergence(), Limits()).action
        if what in (Action.CONVERGED, Action.STOP):
            break
        p = next_progress(p, what)
    assert what in (Action.CONVERGED, Action.STOP)
    assert p.index < sum(stage.max_turns for stage in STAGES)


counts = st.builds(
    ConditionCounts,
    temperature=st.sampled_from([300.0, 600.0]),
    pressure=st.just(1.0),
    composition=st.sampled_from(["LiF", "LiCl"]),
    **{word: st.integers(0, 100) for word in VerdictCounts.model_fields},
)


@given(st.lists(counts, min_size=1, max_size=8), st.integers(1, 300))
def test_every_frame_is_judged_once_and_the_worst_is_no_better_than_the_pool(
    conditions: list[ConditionCounts], least: int
) -> None:
    words = VerdictCounts.model_fields
    pool = {word: sum(getattr(c, word) for c in conditions) for word in words}
    whole = TurnCounts(**pool, conditions=conditions)
    groups = judged(whole, Convergence(min_frames=least))
    assert sum(group.counts.judged for group in groups) == whole.judged
    lowest = worst(whole, Convergence(min_frames=least)).counts.accurate_fraction
    assert lowest <= whole.accurate_fraction + 1e-12
