from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ionloop.geometry.neighbours import neighbours
from ionloop.geometry.periodic import heights
from ionloop.schemas.frames import Frames


def frames_of(seed: int, n_atoms: int, skew: float, hand: int) -> Frames:
    """Make three frames in small skewed cells, their atoms many cells away from the origin."""
    random = np.random.default_rng(seed)
    cells = np.diag(random.uniform(2.0, 6.0, 3)) + random.normal(0, 0.2, (3, 3, 3))
    cells[:, 1, 0] += skew * cells[:, 0, 0]
    cells[:, 2] *= hand
    scaled = random.uniform(0, 1, (3, n_atoms, 3)) + random.integers(-20, 20, (3, n_atoms, 3))
    # Read from the other end, so that the arrays are not contiguous.
    return Frames(("Li",) * n_atoms, (scaled @ cells)[::-1], cells[::-1])


def brute_force(frame: Frames, cutoff: float) -> list[tuple[int, int, float]]:
    """List atoms and distance of every pair of images, each once, from a block of all shifts."""
    cell, places = frame.cells[0], frame.positions[0]
    scaled = places @ np.linalg.inv(cell)
    places = (scaled - np.floor(scaled)) @ cell
    reach = (np.ceil(cutoff / heights(frame.cells)[0]) + 1).astype(int)
    shifts = np.array(list(product(*(range(-n, n + 1) for n in reach)))) @ cell
    found = []
    for first, second in product(range(frame.n_atoms), repeat=2):
        lengths = np.linalg.norm(places[second] - places[first] + shifts, axis=1)
        if first == second:
            lengths = np.delete(lengths, len(shifts) // 2)
        if first <= second:
            found += [(first, second, length) for length in lengths[lengths <= cutoff]]
    return sorted(found)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.floats(-1.5, 1.5),
    st.sampled_from([-1, 1]),
    st.sampled_from([0.8, 2.5, 4.0, 6.0]),
)
def test_every_pair_is_found_once_with_its_atoms(seed, n_atoms, skew, hand, cutoff):
    frames = frames_of(seed, n_atoms, skew, hand)
    seen = []
    for chunk in neighbours(frames, cutoff):
        for number in range(chunk.frames.stop - chunk.frames.start):
            of_frame = chunk.frame == number
            pairs = sorted(
                zip(
                    chunk.first[of_frame].tolist(),
                    chunk.second[of_frame].tolist(),
                    chunk.distance[of_frame].tolist(),
                    strict=True,
                )
            )
            expected = brute_force(frames[chunk.frames.start + number], cutoff)
            assert [pair[:2] for pair in pairs] == [pair[:2] for pair in expected]
            assert [pair[2] for pair in pairs] == pytest.approx([pair[2] for pair in expected])
            seen.append(chunk.frames.start + number)
    assert seen == [0, 1, 2]


def test_two_atoms_on_one_place_are_a_pair():
    frames = Frames(("Li", "S"), np.full((1, 2, 3), 0.3), 8 * np.eye(3)[None])
    (found,) = neighbours(frames, 0.8)
    assert (found.first.tolist(), found.second.tolist(), found.distance.tolist()) == ([0], [1], [0])


def test_frames_without_pairs_are_in_a_chunk_too():
    frames = Frames(("Li",), np.zeros((2, 1, 3)), np.tile(8 * np.eye(3), (2, 1, 1)))
    (found,) = neighbours(frames, 0.8)
    assert (found.frames, len(found.distance)) == (slice(0, 2), 0)
    assert list(neighbours(frames[:0], 0.8)) == []


def test_chunks_of_large_frames_cover_all_of_them_in_their_order():
    positions = np.random.default_rng(7).uniform(0, 14, (5, 400, 3))
    frames = Frames(("Li",) * 400, positions, np.tile(14 * np.eye(3), (5, 1, 1)))
    chunks = list(neighbours(frames, 6.0))
    assert len(chunks) > 1
    assert [n for chunk in chunks for n in range(5)[chunk.frames]] == list(range(5))
    one_by_one = np.concatenate([next(neighbours(frames[n], 6.0)).distance for n in range(5)])
    assert np.array_equal(np.concatenate([chunk.distance for chunk in chunks]), one_by_one)


@pytest.mark.parametrize("width", [1e3, 1e6])
def test_a_cell_that_exploded_fits_in_memory_and_keeps_its_pairs(width: float):
    positions = np.random.default_rng(3).uniform(0, 12, (1, 20, 3))
    near = Frames(("Li",) * 20, positions, 100 * np.eye(3)[None])
    wide = Frames(("Li",) * 20, positions, width * np.eye(3)[None])
    (expected,), (found,) = neighbours(near, 4.0), neighbours(wide, 4.0)
    # Positions far from the origin are rounded off; these cells lose digits of the distances.
    assert sorted(found.distance) == pytest.approx(sorted(expected.distance), abs=1e-6)
