from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ionloop.schemas.frames import Frames
from ionloop.schemas.selection import TrustWindow
from ionloop.selection import Observed, classify, judge

WINDOW = (0.12, 0.25)
V_WINDOW = (0.01, 0.02)

deviations = arrays(float, st.integers(0, 30), elements=st.floats(allow_nan=True))


def expected(f: float, v: float, trust_v: tuple[float, float] | None) -> str:
    """Spell the rule out for one frame."""
    if not np.isfinite(f) or f >= WINDOW[1]:
        return "failed"
    if trust_v is not None and (not np.isfinite(v) or v >= trust_v[1]):
        return "failed"
    if f < WINDOW[0] and (trust_v is None or v < trust_v[0]):
        return "accurate"
    return "candidate"


@given(deviations, st.floats(), st.booleans())
def test_every_frame_gets_the_verdict_of_the_rule(f, v, with_v):
    trust_v = V_WINDOW if with_v else None
    verdicts = classify(f, WINDOW, np.full(len(f), v), trust_v)
    assert verdicts.shape == f.shape
    assert verdicts.tolist() == [expected(one, v, trust_v) for one in f]


def test_limits_belong_to_the_upper_side():
    below = np.nextafter(WINDOW, 0)
    verdicts = classify([below[0], WINDOW[0], below[1], WINDOW[1]], WINDOW)
    assert verdicts.tolist() == ["accurate", "candidate", "candidate", "failed"]
    verdicts = classify([0.0] * 4, WINDOW, [0.0099, 0.01, 0.0199, 0.02], V_WINDOW)
    assert verdicts.tolist() == ["accurate", "candidate", "candidate", "failed"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_failed(bad):
    assert classify([bad, 0.2], WINDOW).tolist() == ["failed", "candidate"]
    assert classify([0.0], WINDOW, [bad], V_WINDOW).tolist() == ["failed"]
    assert classify([0.0], WINDOW, [bad]).tolist() == ["accurate"]


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_larger_deviation_never_helps(one, other):
    order = ["accurate", "candidate", "failed"]
    low, high = classify(sorted([one, other]), WINDOW)
    assert order.index(low) <= order.index(high)


def test_one_number_is_one_frame():
    assert classify(0.2, WINDOW).tolist() == ["candidate"]
    assert classify(0.05, WINDOW, 0.015, V_WINDOW).tolist() == ["candidate"]
    assert classify([], WINDOW).tolist() == []


def test_a_million_frames_take_well_under_a_second():
    f = np.random.default_rng(0).uniform(0, 0.5, 10**6)
    start = time.process_time()
    verdicts = classify(f, WINDOW)
    assert time.process_time() - start < 0.5
    assert np.sum(verdicts == "failed") == np.sum(f >= 0.25)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="the lower level must be below"):
        classify([0.1], (0.25, 0.12))
    with pytest.raises(ValueError, match="trust_v is given without max_devi_v"):
        classify([0.1], WINDOW, trust_v=V_WINDOW)
    with pytest.raises(ValueError, match="max_devi_v has 1 frames and max_devi_f 2"):
        classify([0.1, 0.1], WINDOW, [0.1], V_WINDOW)


def chain(distances) -> Frames:
    """Return two lithium atoms at the given distances in a large box."""
    positions = np.zeros((len(distances), 2, 3))
    positions[:, 1, 0] = distances
    return Frames(("Li", "Li"), positions, np.tile(10 * np.eye(3), (len(distances), 1, 1)))


def test_judging_goes_from_skipped_through_physics_to_trust():
    frames = chain([1.0, 1.0, 2.8, 2.8, 2.8, 2.8, np.nan])
    verdicts, reasons, ratios = judge(
        frames,
        Observed(
            steps=np.arange(7) * 10,
            max_devi_f=np.array([0.01, 0.01, 0.01, 0.2, 0.9, 0.01, 0.01]),
            temperatures=np.array([300, 300, 300, 300, 300, 1200, 300]),
        ),
        trust=TrustWindow(low=0.12, high=0.25),
        target=300.0,
        start=chain([2.8]),
        skip=10,
    )
    assert verdicts.tolist() == [
        "skipped", "failed", "accurate", "candidate", "failed", "failed", "failed",
    ]  # fmt: skip
    assert reasons.tolist() == [
        "before step 10",
        "Li-Li too near",
        "below the trust window",
        "in the trust window",
        "force deviation above the trust window",
        "exploded temperature",
        "not finite",
    ]
    assert ratios[1] == pytest.approx(1.0 / (0.6 * 2.56))
    assert np.isnan(ratios[6])


def test_the_reason_names_the_deviation_that_decided():
    trust = TrustWindow(low=0.12, high=0.25, v_low=0.01, v_high=0.02)
    _, reasons, _ = judge(
        chain([2.8] * 5),
        Observed(
            steps=np.arange(5),
            max_devi_f=np.array([0.01, 0.3, np.inf, 0.01, 0.3]),
            max_devi_v=np.array([0.03, 0.03, 0.0, np.nan, 0.0]),
        ),
        trust=trust,
    )
    assert reasons.tolist() == [
        "virial deviation above the trust window",
        "force deviation above the trust window",
        "deviation not finite",
        "deviation not finite",
        "force deviation above the trust window",
    ]
