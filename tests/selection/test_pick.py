from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ionloop.schemas.frames import Frames
from ionloop.selection.fingerprint import TOLERANCE, distances, fingerprints
from ionloop.selection.pick import OVER_MAX, SelectSettings, pick


def gas(lengths, symbols: tuple[str, str] = ("Li", "S")) -> Frames:
    """Return pairs of atoms at the given distances in Å: alike where the distances are."""
    positions = np.zeros((len(lengths), 2, 3))
    positions[:, 1, 2] = lengths
    return Frames(symbols, positions, np.tile(15 * np.eye(3), (len(lengths), 1, 1)))


def spread(n: int, first: float = 2.0) -> Frames:
    """Return pairs of atoms that are all unlike each other."""
    return gas(np.linspace(first, 3.5, n))


def go(frames: Frames, dataset=(), max_labels: int = 100, seed: int = 0, **changes):
    settings = SelectSettings().model_copy(update={"max_labels": max_labels, **changes})
    return pick([frames], np.zeros(len(frames)), list(dataset), settings, seed=seed)


def test_a_seed_gives_its_pick_again_and_another_gives_another():
    frames = spread(12)
    first, again, other = (go(frames, max_labels=4, seed=seed).indices for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(set(first)) == 4


def test_every_candidate_has_its_reason():
    frames = spread(6)
    indices, reasons = go(frames, max_labels=4)
    assert [reasons[index] for index in indices] == ["picked: random"] * 4
    assert sorted(reasons) == [OVER_MAX] * 2 + ["picked: random"] * 4


def test_rejects_are_replaced():
    frames = gas([2.0, 2.0001, 2.5, 0.9, 3.0])
    dataset = [gas([2.5]), gas([2.9999], ("Li", "Ge"))]
    indices, reasons = go(frames, dataset, max_labels=2, strategy="highest")
    assert len(indices) == 2
    assert 4 in indices
    assert reasons[2] in ("already labelled", OVER_MAX)
    _, reasons = go(frames, dataset)
    assert reasons[2] == "already labelled"
    assert reasons[3] == "Li-S too near"
    assert reasons[4] == "picked: random"
    kept, lost = (0, 1) if reasons[0].startswith("picked") else (1, 0)
    assert reasons[kept] == "picked: random"
    assert reasons[lost] == f"too near pick {frames.ids[kept]}"


def test_a_frame_like_a_labelled_one_is_not_labelled_whatever_the_order_of_its_atoms():
    labelled = gas([3.0, 2.2], ("S", "Li"))
    _, reasons = go(gas([2.2001, 2.6]), [labelled])
    assert reasons == [f"too near labelled frame {labelled.ids[1]}", "picked: random"]


def test_a_frame_that_comes_twice_is_picked_once_at_no_tolerance():
    frames = spread(5)[[0, 1, 1, 2]]
    indices, reasons = go(frames, tolerance=0.0)
    assert len(indices) == 3
    assert sum(reason.startswith("too near pick") for reason in reasons) == 1


def test_the_highest_deviation_comes_first():
    frames = spread(6)
    deviations = np.array([0.2, 0.5, 0.1, 0.4, 0.3, 0.6])
    picks = pick([frames], deviations, [], SelectSettings(max_labels=3, strategy="highest"))
    assert picks.indices == [5, 1, 3]


def test_the_farthest_frames_are_picked_first():
    rng = np.random.default_rng(0)
    frames = gas(rng.uniform(2.0, 3.5, 60))
    dataset = [gas([2.0])]
    indices, _ = go(frames, dataset, max_labels=6, strategy="farthest")
    prints = fingerprints(frames)
    known = fingerprints(dataset[0])
    for index in indices:
        isolation = distances(prints, known).min(axis=1)
        assert isolation[index] == pytest.approx(isolation.max(), abs=1e-6)
        known = np.concatenate([known, prints[[index]]])


def test_farthest_says_of_the_rest_what_it_is_near_to():
    frames = gas([2.0, 2.0001, 3.0, 3.0001, 0.8])
    indices, reasons = go(frames, strategy="farthest")
    assert len(indices) == 2
    assert reasons[4] == "Li-S too near"
    assert sum(reason.startswith("too near pick") for reason in reasons) == 2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(1.0, 3.5), max_size=12),
    st.lists(st.floats(1.0, 3.5), max_size=4),
    st.integers(0, 8),
    st.sampled_from(["random", "farthest", "highest"]),
)
def test_picks_are_new_unlike_and_as_many_as_can_be(lengths, labelled, max_labels, strategy):
    frames = gas(np.array(lengths))
    dataset = [gas(np.array(labelled))]
    indices, reasons = go(frames, dataset, max_labels=max_labels, strategy=strategy)
    assert len(indices) == len(set(indices)) <= max_labels
    assert [i for i, reason in enumerate(reasons) if reason.startswith("picked")] == sorted(indices)
    if len(indices) < max_labels:
        assert OVER_MAX not in reasons
    known = np.concatenate([np.array(lengths)[indices], np.array(labelled)])
    apart = np.abs(known[: len(indices), None] - known)
    apart[np.arange(len(indices)), np.arange(len(indices))] = np.inf
    assert apart.min(initial=np.inf) > 1e-3


def crystal(n_frames: int, rattle: float, seed: int = 0) -> Frames:
    """Return a simple cubic crystal with all atoms displaced at random."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3) * 3.0
    positions = grid + rng.normal(0, rattle, (n_frames, *grid.shape))
    return Frames(("Li",) * 27, positions, np.tile(9.0 * np.eye(3), (n_frames, 1, 1)))


def test_snapshots_of_a_stiff_crystal_are_all_picked_and_its_near_copies_are_not():
    frames = crystal(40, rattle=0.05)
    prints = fingerprints(frames)
    assert np.median(distances(prints, prints)) < TOLERANCE
    assert len(go(frames).indices) == 40
    assert len(go(frames, [crystal(40, rattle=0.05, seed=1)]).indices) == 40
    noise = np.random.default_rng(2).normal(0, TOLERANCE / 3, frames.positions.shape)
    near = Frames(frames.symbols, frames.positions + noise, frames.cells)
    _, reasons = go(near, [frames])
    assert reasons == [f"too near labelled frame {frame_id}" for frame_id in frames.ids]


def test_exact_copies_are_found_whatever_the_order_and_the_orientation():
    frames = crystal(5, rattle=0.05)
    order = np.random.default_rng(1).permutation(27)
    turn = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    copies = Frames(frames.symbols, frames.positions[:, order] @ turn + 0.7, frames.cells @ turn)
    _, reasons = go(copies, [frames])
    assert reasons == [f"too near labelled frame {frame_id}" for frame_id in frames.ids]


def test_compositions_are_numbered_one_after_the_other():
    candidates = [spread(3), gas([], ("Li", "Ge")), gas([2.4, 2.8], ("Li", "P"))]
    picks = pick(candidates, np.arange(5.0), [], SelectSettings(max_labels=5, strategy="highest"))
    assert picks.indices == [4, 3, 2, 1, 0]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="2 deviations for 3 candidates"):
        pick([spread(3)], np.zeros(2), [], SelectSettings(max_labels=1))
    with pytest.raises(ValueError, match="'nearest' is unknown: choose from random, farthest"):
        go(spread(3), strategy="nearest")
