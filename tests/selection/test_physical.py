from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ionloop.geometry.neighbours import neighbours
from ionloop.geometry.periodic import heights
from ionloop.schemas.frames import Frames
from ionloop.selection.physical import (
    PhysicalLimits,
    inspect,
    skewness,
)

LGPS = Path(__file__).parents[3] / "shared/data/lgps_dpgen"


def every_distance(frames: Frames, cutoff: float, images: int = 5) -> list[list[float]]:
    """Return the sorted distances of ordered pairs over an explicit block of images."""
    block = np.array(list(product(range(-images, images + 1), repeat=3)))
    found = []
    for positions, cell in zip(frames.positions, frames.cells, strict=True):
        apart = positions[:, None] - positions + (block @ cell)[:, None, None]
        lengths = np.linalg.norm(apart, axis=-1).ravel()
        found.append(sorted(lengths[(lengths > 1e-9) & (lengths <= cutoff)]))
    return found


def cells_of(seed: int, n_frames: int, skew: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    cells = np.diag(rng.uniform(2.5, 5.0, 3)) + np.zeros((n_frames, 1, 1))
    cells[:, 1, 0] = skew * cells[:, 0, 0]
    return cells + rng.normal(0, 0.1, cells.shape)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(-1.5, 1.5))
def test_neighbours_agree_with_an_explicit_block_of_images(seed, n_atoms, skew):
    rng = np.random.default_rng(seed)
    cells = cells_of(seed, 3, skew)
    symbols, scaled = ("Li",) * n_atoms, rng.uniform(0, 1, (3, n_atoms, 3))
    expected = every_distance(Frames(symbols, scaled @ cells, cells), 4.0)
    scaled += rng.integers(-3, 3, scaled.shape)
    frames = Frames(symbols, scaled @ cells, cells)
    for chunk in neighbours(frames, 4.0):
        for number in range(chunk.frames.stop - chunk.frames.start):
            mine = chunk.distance[chunk.frame == number]
            doubled = np.repeat(mine, (2 * chunk.weight[chunk.frame == number]).astype(int))
            assert np.allclose(np.sort(doubled), expected[chunk.frames.start + number])


def test_an_atom_sees_its_own_images_in_a_cell_smaller_than_the_cutoff():
    frames = Frames(("Li",), np.zeros((1, 1, 3)), np.diag([1.2, 9.0, 9.0])[None])
    assert inspect(frames).min_distance_ratios[0] == pytest.approx(1.2 / (0.6 * 2.56))


def test_two_atoms_on_one_place_have_ratio_zero():
    frames = Frames(("Li", "S"), np.full((1, 2, 3), 0.3), 8 * np.eye(3)[None])
    assert inspect(frames).min_distance_ratios[0] == 0
    assert inspect(frames).faults.tolist() == ["Li-S too near"]


def test_distances_go_over_the_boundary():
    positions = np.array([[[0.2, 0, 0], [9.5, 0, 0]]])
    frames = Frames(("S", "Li"), positions, 10 * np.eye(3)[None])
    limit = 0.6 * (1.28 + 1.05)
    assert inspect(frames).min_distance_ratios[0] == pytest.approx(0.7 / limit)


def test_a_limit_can_be_given_for_a_pair_in_either_order():
    frames = Frames(("Li", "S"), np.array([[[0, 0, 0], [1.5, 0, 0]]]), 10 * np.eye(3)[None])
    assert inspect(frames).faults.tolist() == [""]
    limits = PhysicalLimits(distances={"S-Li": 1.6})
    assert inspect(frames, limits).faults.tolist() == ["Li-S too near"]
    assert inspect(frames, limits).min_distance_ratios[0] == pytest.approx(1.5 / 1.6)


@pytest.mark.parametrize("pair", ["LiS", "Li-Xx", "Li-S-S"])
def test_a_limit_for_no_pair_is_refused(pair):
    with pytest.raises(ValueError, match=f"'{pair}' is not a pair of elements"):
        PhysicalLimits(distances={pair: 1.6})


def test_volume_ratios_that_do_not_enclose_the_start_are_refused():
    with pytest.raises(ValueError, match="must enclose 1"):
        PhysicalLimits(volume_ratio=(1.8, 0.6))


def test_ratios_end_at_twice_the_limit():
    frames = Frames(("Li",), np.zeros((1, 1, 3)), 20 * np.eye(3)[None])
    assert inspect(frames).min_distance_ratios.tolist() == [2.0]


def test_cells_are_compared_with_the_start():
    cell = 6.0 * np.eye(3)
    skewed = cell.copy()
    skewed[1, 0] = 12.0
    cells = np.array([cell, 0.8 * cell, 1.3 * cell, skewed, np.diag([6, 6, 0]), cell * np.nan])
    positions = np.zeros((6, 1, 3))
    frames = Frames(("Li",), positions, cells)
    assert inspect(frames, start=frames[0]).faults.tolist() == [
        "",
        "collapsed cell",
        "inflated cell",
        "skewed cell",
        "flat cell",
        "not finite",
    ]
    assert inspect(frames[:4]).faults.tolist() == ["", "", "", ""]


def test_a_skewed_start_allows_a_skewed_cell():
    cell = np.array([[6.0, 0, 0], [12.0, 6.0, 0], [0, 0, 6.0]])
    frames = Frames(("Li",), np.zeros((1, 1, 3)), cell[None])
    assert inspect(frames, start=frames).faults.tolist() == [""]


def test_temperatures_need_a_target():
    frames = Frames(("Li",), np.zeros((3, 1, 3)), np.tile(9 * np.eye(3), (3, 1, 1)))
    temperatures = np.array([899.0, 901.0, np.nan])
    faults = inspect(frames, temperatures=temperatures, target=300).faults
    assert faults.tolist() == ["", "exploded temperature", "exploded temperature"]
    with pytest.raises(ValueError, match="give the thermostat's"):
        inspect(frames, temperatures=temperatures)
    with pytest.raises(ValueError, match="the start is one frame, not 3"):
        inspect(frames, start=frames)


@given(st.floats(30, 150))
def test_skewness_is_one_over_the_sine_of_the_angle(angle):
    radians = np.deg2rad(angle)
    cell = np.array([[3, 0, 0], [5 * np.cos(radians), 5 * np.sin(radians), 0], [0, 0, 4]])
    assert skewness(cell[None])[0] == pytest.approx(1 / np.sin(radians))
    assert heights(cell[None])[0] == pytest.approx([3 * np.sin(radians), 5 * np.sin(radians), 4])


def test_neighbours_refuse_what_has_no_distances():
    with pytest.raises(ValueError, match="cells of non-zero volume"):
        next(neighbours(Frames(("Li",), np.zeros((1, 1, 3)), np.zeros((1, 3, 3))), 3.0))


@pytest.mark.skipif(not LGPS.exists(), reason="the LGPS data are not beside the checkout")
@pytest.mark.parametrize("name", ["init", *(f"iteration-{number}" for number in range(8))])
def test_no_real_frame_is_near_the_limits(name):
    symbols = np.array(["Li", "Ge", "P", "S"])[np.loadtxt(LGPS / name / "type.raw", dtype=int)]
    cells = np.load(LGPS / name / "set.000/box.npy").reshape(-1, 3, 3)
    positions = np.load(LGPS / name / "set.000/coord.npy").reshape(len(cells), -1, 3)
    frames = Frames(tuple(symbols), positions, cells)
    faults, ratios = inspect(frames, start=frames[0])
    assert set(faults) == {""}
    assert ratios.min() > 0.73 / 0.6
