from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ionloop.schemas.learning import FEWEST, GAP, Limit, learning
from ionloop.schemas.potential import ForceErrors


def errors(force: float, n_frames: int = 100, size: float = 800.0) -> list[ForceErrors]:
    """Return the errors of two models, 10 % below and above `force` (meV/Å)."""
    return [
        ForceErrors(
            n_frames=n_frames,
            energy_mev_per_atom=1.0,
            force_mev_per_angstrom=factor * force,
            force_rms_mev_per_angstrom=size,
        )
        for factor in (0.9, 1.1)
    ]


@pytest.mark.parametrize(
    ("own", "held_back", "n", "limit"),
    [
        (130, 130, 40, Limit.TRAINING),
        (130, 120, 40, Limit.TRAINING),
        (80, 130, 40, Limit.DATA),
        (1, 130, FEWEST, Limit.DATA),
        (100, 100 * GAP, 1000, Limit.BOTH),
        # The same ratio, known better or worse.
        (100, 118, 10, Limit.BOTH),
        (100, 118, 200, Limit.TRAINING),
        (100, 140, 10, Limit.BOTH),
        (100, 140, 200, Limit.DATA),
        (80, 130, FEWEST - 1, Limit.UNKNOWN),
    ],
)
def test_what_limits_a_model(own: float, held_back: float, n: int, limit: Limit):
    found = learning(errors(own), errors(held_back, n))
    assert found.limit is limit
    assert found.sentence.startswith(limit.value)


def test_cooler_frames_are_no_better_learned():
    # The held-back frames have half the forces, so half the error is the same error.
    assert learning(errors(100), errors(50, 100, size=400)).limit is Limit.TRAINING
    assert learning(errors(100), errors(90, 100, size=400)).limit is Limit.DATA


def test_without_held_back_frames_it_cannot_be_told():
    assert "no frame was held back" in learning(errors(100), []).sentence
    assert "7 held-back frame(s) are too few" in learning(errors(100), errors(100, 7)).sentence


@pytest.mark.parametrize("size", [0.0, 800.0])
def test_perfect_or_forceless_models_are_not_judged(size: float):
    nothing = errors(0.0, size=size)
    assert learning(nothing, nothing).limit is Limit.UNKNOWN
    assert learning(nothing, nothing).sentence


@given(st.floats(1, 500), st.floats(1, 500), st.integers(FEWEST, 5000))
def test_a_larger_gap_never_speaks_for_more_training(own: float, held_back: float, n: int):
    order = [Limit.TRAINING, Limit.BOTH, Limit.DATA]
    first = learning(errors(own), errors(held_back, n)).limit
    worse = learning(errors(own), errors(1.2 * held_back, n)).limit
    assert order.index(first) <= order.index(worse)


def test_the_sentence_names_the_numbers_and_what_helps():
    sentence = learning(errors(100), errors(180, 16)).sentence
    assert "16 held-back frames is 1.80 (±0.18) times" in sentence
    assert "more labels help" in sentence
