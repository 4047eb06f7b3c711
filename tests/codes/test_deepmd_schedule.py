from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ionloop.codes.deepmd.schedule import (
    LONG,
    MOST_COSINE,
    SHORT,
    STARTS,
    STILL,
    WARM_STARTS,
    Schedule,
    schedule,
)
from ionloop.codes.deepmd.settings import DeepmdSettings

STEPS = st.integers(1, 10_000_000)


def test_short_and_long_trainings_have_the_rates_that_were_measured_and_published():
    assert schedule(SHORT) == Schedule(5e-3, 1e-6, SHORT, "cosine")
    assert schedule(100) == Schedule(5e-3, 1e-6, 100, "cosine")
    assert schedule(LONG) == Schedule(1e-3, 3.5e-8, LONG, "exponential")
    assert [schedule(n, warm=True).start for n in (SHORT, LONG)] == list(WARM_STARTS)
    # In the middle on logarithmic scales, so at the geometric mean.
    middle = schedule(44_721, decay="exponential")
    assert middle.start == pytest.approx((STARTS[0] * STARTS[1]) ** 0.5, rel=0.05)
    assert middle.stop == pytest.approx((3e-5 * 3.5e-8) ** 0.5, rel=0.05)


def test_a_rate_that_is_given_decays_exponentially_unless_told():
    assert schedule(3000).decay == schedule(MOST_COSINE).decay == "cosine"
    assert schedule(MOST_COSINE + 1).decay == "exponential"
    for start, stop in ((2e-3, None), (None, 1e-6)):
        assert schedule(3000, start, stop).decay == "exponential"
        assert schedule(3000, start, stop, "cosine").decay == "cosine"


@given(STEPS, STEPS, st.booleans())
def test_a_longer_training_never_has_a_higher_rate(one, other, warm):
    first, second = (schedule(n, decay="cosine", warm=warm) for n in sorted((one, other)))
    assert first.start >= second.start > second.stop
    assert first.stop >= second.stop


@given(STEPS, st.floats(1e-9, 1e-1), st.booleans())
def test_rates_that_are_given_are_kept(steps, rate, warm):
    assert schedule(steps, rate, warm=warm).start == rate
    assert schedule(steps, rate, warm=warm).stop <= rate
    assert schedule(steps, None, rate, warm=warm).stop == rate


@pytest.mark.parametrize("decay", ["exponential", "cosine"])
@pytest.mark.parametrize(
    ("start", "stop", "steps"),
    [(1e-3, 3.5e-8, 3000), (2e-3, 1e-6, 8000), (3e-3, 3e-5, 8000), (1e-3, 3.5e-8, 400_000)],
)
def test_still_is_where_the_remaining_steps_add_up_to_nothing(start, stop, steps, decay):
    found = Schedule(start, stop, steps, decay)
    way = (np.arange(steps) + 0.5) / steps
    falling = {
        "exponential": start * (stop / start) ** way,
        "cosine": stop + (start - stop) * (1 + np.cos(np.pi * way)) / 2,
    }
    rates = falling[decay]
    left = np.cumsum(rates[::-1])[::-1]
    assert found.still == pytest.approx((left < STILL).mean(), abs=0.01)
    assert found.last_moving == pytest.approx(rates[np.argmax(left < STILL)], rel=0.05)


def test_a_constant_rate_moves_to_the_end_or_never():
    assert Schedule(1e-3, 1e-3, 1000).still == pytest.approx(0.01)
    assert Schedule(1e-6, 1e-6, 1000).still == 1


@given(st.integers(1000, 1_000_000), st.booleans())
def test_no_chosen_rate_leaves_much_of_a_training_still(steps, warm):
    assert schedule(steps, warm=warm).still < 0.3


def test_settings_choose_the_rates_by_their_steps():
    settings = DeepmdSettings(steps=400_000, warm_steps=2000)
    assert settings.schedule(warm=False) == schedule(400_000)
    assert settings.schedule(warm=True) == schedule(2000, warm=True)
    told = DeepmdSettings(steps=400_000, learning_rate_decay="cosine")
    assert told.schedule(warm=False) == schedule(400_000, decay="cosine")
    named = DeepmdSettings(steps=400_000, warm_steps=2000, learning_rate_stop=1e-6)
    assert named.schedule(warm=False) == Schedule(1e-3, 1e-6, 400_000)
    assert named.schedule(warm=True) == Schedule(3e-3, 1e-6, 2000)


def test_settings_of_an_earlier_version_keep_their_rates():
    stored = {"learning_rate_start": 1e-3, "learning_rate_stop": 3.5e-8, "steps": 3000}
    settings = DeepmdSettings.model_validate(stored | {"warm_learning_rate": 1e-4})
    assert settings.schedule(warm=False) == Schedule(1e-3, 3.5e-8, 3000)
    assert settings.schedule(warm=True) == Schedule(1e-4, 3.5e-8, 3000)


def test_rates_in_the_wrong_order_are_refused_by_name():
    with pytest.raises(ValueError, match=r"warm_learning_rate \(1e-05\).*learning_rate_stop \(3"):
        DeepmdSettings(warm_steps=10, warm_learning_rate=1e-5, learning_rate_stop=3e-5)
    # Without warm starts their rate is of no matter.
    DeepmdSettings(warm_learning_rate=1e-5, learning_rate_stop=3e-5)
