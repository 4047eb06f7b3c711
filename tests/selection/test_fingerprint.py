from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ionloop.schemas.frames import Frames
from ionloop.selection.fingerprint import (
    SMEARING,
    TOLERANCE,
    displacements,
    distances,
    fingerprints,
    scaled_positions,
    width,
)

seeds = st.integers(0, 10**6)


def crystal(seed: int = 0, n_frames: int = 1, rattle: float = 0.1, size: int = 2) -> Frames:
    """Return rattled rock salt in a slightly skewed cell."""
    rng = np.random.default_rng(seed)
    corner = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2.6
    unit = np.concatenate([corner, corner + np.array([2.6, 0, 0])])
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3), axis=-1).reshape(-1, 1, 3) * 5.2
    positions = (grid + unit).reshape(-1, 3)
    symbols = (["Li"] * 4 + ["S"] * 4) * size**3
    cell = 5.2 * size * np.eye(3) + np.array([[0, 0, 0], [0.4, 0, 0], [0.2, -0.3, 0]])
    positions = positions @ np.linalg.inv(5.2 * size * np.eye(3)) @ cell
    noise = rng.normal(0, rattle, (n_frames, *positions.shape))
    return Frames(tuple(symbols), positions + noise, np.tile(cell, (n_frames, 1, 1)))


def rattled(frames: Frames, size: float, seed: int) -> Frames:
    noise = np.random.default_rng(seed).normal(0, size, frames.positions.shape)
    return Frames(frames.symbols, frames.positions + noise, frames.cells)


def apart(one: Frames, other: Frames) -> float:
    return float(np.linalg.norm(fingerprints(one)[0] - fingerprints(other)[0]))


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_permutation_translation_and_rotation_change_nothing(seed):
    frames = crystal(seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(frames.n_atoms)
    turn = Rotation.random(rng=rng).as_matrix()
    moved = frames.positions[:, order] + rng.uniform(-20, 20, 3)
    symbols = tuple(np.array(frames.symbols)[order])
    assert apart(frames, Frames(symbols, moved @ turn, frames.cells @ turn)) < 1e-9


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_another_cell_of_the_same_crystal_changes_nothing(seed):
    frames = crystal(seed, size=1)
    other = np.array([[1, 1, 0], [0, 1, 0], [2, 0, 1]])
    same = Frames(frames.symbols, frames.positions, other @ frames.cells)
    assert apart(frames, same) < 1e-9


def test_a_supercell_differs_from_its_cell_by_the_root_of_its_size():
    frames = crystal(size=1)
    cell = frames.cells[0]
    doubled = np.concatenate([frames.positions, frames.positions + cell[0]], axis=1)
    twice = Frames(frames.symbols * 2, doubled, (np.diag([2, 1, 1]) @ cell)[None])
    assert np.allclose(fingerprints(twice), np.sqrt(2) * fingerprints(frames))


def two_moments(step: float, n_frames: int, size: int, spread: float = 0.15) -> tuple[Frames, ...]:
    """Return snapshots of a harmonic crystal, before and after all atoms moved by `step`."""
    cosine = 1 - step**2 / (2 * spread**2)
    still = crystal(rattle=0, size=size)
    shape = (n_frames, still.n_atoms, 3)
    one, other = np.random.default_rng(size).normal(0, spread, (2, *shape))
    later = cosine * one + np.sqrt(1 - cosine**2) * other
    cells = np.tile(still.cells, (n_frames, 1, 1))
    return tuple(Frames(still.symbols, still.positions + move, cells) for move in (one, later))


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("step", [0.003, 0.01, 0.03])
def test_the_distance_is_the_displacement_whatever_the_number_of_atoms(step, size):
    before, after = two_moments(step, n_frames=1200 // size**3, size=size)
    change = fingerprints(after) - fingerprints(before)
    root_mean_square = np.sqrt(np.mean(np.sum(change**2, axis=1)))
    assert root_mean_square == pytest.approx(step, rel=0.15)


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(1e-9, 1e-5))
def test_a_small_move_is_a_small_change(seed, step):
    frames = crystal(seed)
    change = np.random.default_rng(seed).uniform(-step, step, frames.positions.shape)
    moved = Frames(frames.symbols, frames.positions + change, frames.cells)
    assert apart(frames, moved) < 10 * step


def test_independent_snapshots_are_farther_apart_than_the_tolerance():
    before, _ = two_moments(0.1, n_frames=20, size=2)
    between = distances(fingerprints(before), fingerprints(before))
    assert np.median(between) > 2.5 * TOLERANCE


def test_displacements_are_seen_across_boundaries_and_without_a_common_shift():
    before, after = two_moments(0.02, n_frames=8, size=2)
    shift = np.array([1.3, -4.0, 0.7]) + 5 * before.cells[0, 1]
    moved = Frames(after.symbols, after.positions + shift, after.cells)
    size = displacements(scaled_positions(before)[0], before.cells[0], scaled_positions(moved))
    expected = after.positions - before.positions[0]
    expected -= expected.mean(axis=1, keepdims=True)
    assert size == pytest.approx(np.sqrt(np.mean(expected**2, axis=(1, 2))))
    assert size[0] == pytest.approx(0.02, rel=0.2)


def test_distances_are_euclidean():
    one = fingerprints(crystal(1, 3))
    other = fingerprints(crystal(2, 4))
    expected = np.linalg.norm(one[:, None] - other, axis=-1)
    assert np.allclose(distances(one, other), expected, atol=1e-7)
    assert distances(one, one).diagonal() == pytest.approx(0, abs=1e-6)


def test_one_pair_gives_the_norm_that_the_formula_says():
    frames = Frames(("Li", "Li"), np.array([[[0, 0, 0], [3.0, 0, 0]]]), 30 * np.eye(3)[None])
    weight = np.cos(0.5 * np.pi * 3.0 / 5.0) ** 2
    assert np.linalg.norm(fingerprints(frames)) == pytest.approx(weight * SMEARING, rel=0.03)


def test_shapes_hold_without_frames_and_for_a_lone_atom():
    frames = crystal()
    assert fingerprints(frames[:0]).shape == (0, width(frames))
    lone = Frames(("Li",), np.zeros((1, 1, 3)), 30 * np.eye(3)[None])
    assert np.array_equal(fingerprints(lone), np.zeros((1, width(lone))))
