from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ionloop.schemas.frames import Frames
from ionloop.schemas.likeness import SAME, likeness, likenesses_near

EDGES = [0.0, 1.0, 0.5, -1e-9, 1e-9, 1 - 1e-9, 0.25, 1 / 3]
SCALED = st.one_of(st.sampled_from(EDGES), st.floats(0, 1))


@st.composite
def any_frame(draw):
    n = draw(st.integers(1, 6))
    symbols = draw(st.lists(st.sampled_from(["Li", "P", "S"]), min_size=n, max_size=n))
    scaled = [[draw(SCALED) for _ in range(3)] for _ in range(n)]
    edges = np.diag([draw(st.sampled_from([0.8, 4.0, 11.3])) for _ in range(3)])
    tilt = np.array([[0, 0, 0], [draw(st.floats(-1, 1)), 0, 0], [0.3, draw(st.floats(-1, 1)), 0]])
    cell = edges + tilt
    return Frames(tuple(symbols), (np.array(scaled) @ cell)[None], cell[None])


def described_anew(frame, rng, noise=0.0):
    """Permute the atoms, move them by lattice vectors, turn everything, round."""
    order = rng.permutation(frame.n_atoms)
    images = rng.integers(-3, 4, (frame.n_atoms, 3)) @ frame.cells[0]
    directions = rng.normal(size=(frame.n_atoms, 3))
    moves = noise * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    turn = Rotation.random(random_state=rng).as_matrix()
    return Frames(
        tuple(frame.symbols[i] for i in order),
        ((frame.positions[0] + images + moves)[order] @ turn)[None],
        frame.cells @ turn,
    )


@settings(max_examples=200, deadline=None)
@given(any_frame(), st.integers(0, 10_000), st.sampled_from([0.0, 1e-9, 5e-7, SAME]))
def test_every_description_of_a_configuration_is_found_under_its_key(frame, seed, noise):
    other = described_anew(frame, np.random.default_rng(seed), noise)
    assert likeness(other)[0] in likenesses_near(frame)
    assert likeness(frame)[0] in likenesses_near(other)


@settings(max_examples=100, deadline=None)
@given(any_frame(), st.integers(0, 10_000))
def test_the_snapped_image_of_a_snapped_frame_is_found_too(frame, seed):
    snapped = frame.snapped()
    rng = np.random.default_rng(seed)
    images = rng.integers(-3, 4, (frame.n_atoms, 3)) @ snapped.cells[0]
    other = replace(snapped, positions=snapped.positions + images).snapped()
    assert likeness(other)[0] in likenesses_near(snapped)


def frame(symbols=("Li", "S", "S"), size=5.0, seed=0):
    scaled = np.random.default_rng(seed).uniform(size=(1, 3, 3))
    return Frames(symbols, scaled * size, np.eye(3)[None] * size)


def test_other_configurations_have_other_keys():
    keys = {likeness(frame(seed=seed))[0] for seed in range(200)}
    keys |= {likeness(frame(("S", "Li", "S")))[0], likeness(frame(("Li", "Li", "S")))[0]}
    keys |= {likeness(frame(size=5.01))[0]}
    assert len(keys) == 203


def test_few_keys_are_looked_under():
    looks = [len(likenesses_near(frame(seed=seed))) for seed in range(300)]
    assert np.mean(looks) < 2.5
    assert max(looks) <= 16


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.diag([1, 1, 0])])
def test_what_is_no_crystal_has_no_key(cell):
    broken = Frames(("Li",), np.zeros((1, 1, 3)), cell[None])
    assert likeness(broken) == [""]
    assert likenesses_near(broken) == []
    nowhere = Frames(("Li",), np.full((1, 1, 3), np.inf), np.eye(3)[None])
    assert likeness(nowhere) == [""]
