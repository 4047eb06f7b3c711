from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ionloop.geometry.periodic import supercell
from ionloop.geometry.perturb import perturb
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import (
    DEFAULT_SPACING,
    Kept,
    KPoints,
    description,
    mesh_of,
    n_points,
    spaced_mesh,
    widest,
)
from ionloop.schemas.label import LevelOfTheory

POINTS = TypeAdapter(KPoints)


def cell_of(a: float, b: float, c: float, symbols: tuple[str, ...] = ("Li", "F")) -> Frames:
    cell = np.diag([a, b, c])
    places = np.linspace(0.1, 0.9, len(symbols))[:, None] @ np.diag(cell)[None]
    return Frames(symbols, places[None], cell[None])


START = cell_of(8.0, 10.0, 15.0)


def kept(spacing: float, *starts: Frames) -> Kept:
    return Kept(kept=spacing).of_starts(starts)


@pytest.mark.parametrize(
    ("written", "mesh"),
    [
        (0.5, (2, 2, 1)),  # 2π/8 = 0.785, 2π/10 = 0.628, 2π/15 = 0.419: as VASP rounds KSPACING up
        (0.25, (4, 3, 2)),
        (10, (1, 1, 1)),
        ([2, 1, 3], (2, 1, 3)),
        ("gamma", (1, 1, 1)),
        ({"kept": 0.5}, (2, 2, 1)),
    ],
)
def test_every_way_to_write_kpoints_gives_its_mesh(written, mesh):
    assert mesh_of(POINTS.validate_python(written), START) == mesh


@pytest.mark.parametrize(
    "wrong",
    [0, -0.3, float("nan"), float("inf"), True, "Γ", [2, 2], [0, 1, 1], [1.5, 1, 1], None, {}],
)
def test_what_is_no_kpoints_is_answered_with_all_ways_to_write_them(wrong):
    with pytest.raises(ValidationError) as error:
        POINTS.validate_python(wrong)
    (told,) = error.value.errors()
    for way in ("0.35", "[2, 2, 1]", "gamma", "{kept: 0.35}"):
        assert way in told["msg"]


def test_the_default_is_what_the_materials_project_takes_for_a_gap_of_2_ev():
    from pymatgen.io.vasp.sets import auto_kspacing

    assert pytest.approx(auto_kspacing(2.0, 1e-4), abs=1e-3) == DEFAULT_SPACING


@given(st.integers(1, 6), st.floats(2.0, 20.0))
def test_a_mesh_that_fits_exactly_is_not_refined(n, length):
    assert spaced_mesh(2 * np.pi / length / n, length * np.eye(3)) == (n, n, n)


@given(
    st.lists(st.floats(3.0, 30.0), min_size=3, max_size=3),
    st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3),
    st.floats(0.1, 1.0),
)
def test_no_two_points_are_further_apart_than_the_spacing(lengths, skew, spacing):
    cell = np.diag(lengths)
    cell[1, 0], cell[2, 0], cell[2, 1] = skew
    mesh = spaced_mesh(spacing, cell)
    assert widest(mesh, cell) <= spacing * (1 + 1e-6)
    for axis in range(3):
        coarser = [n - (axis == i) for i, n in enumerate(mesh)]
        assert coarser[axis] == 0 or widest(coarser, cell) > spacing * (1 - 1e-6)


@given(
    st.tuples(*[st.floats(3.0, 20.0)] * 3),
    st.tuples(*[st.integers(1, 3)] * 3),
    st.floats(0.2, 0.8),
    st.integers(0, 99),
)
def test_a_kept_mesh_does_not_change_with_strain(lengths, repetitions, spacing, seed):
    start = cell_of(*lengths)
    whole = supercell(start, repetitions)
    points = kept(spacing, start)
    strained = perturb(whole, 1, strain=0.05, seed=seed)
    assert mesh_of(points, strained) == mesh_of(points, whole)


def test_a_supercell_divides_the_kept_mesh():
    points = kept(0.25, START)
    assert mesh_of(points, START) == (4, 3, 2)
    assert mesh_of(points, supercell(START, (2, 2, 2))) == (2, 2, 1)
    assert mesh_of(points, supercell(START, (2, 1, 1))) == (2, 3, 2)
    assert mesh_of(points, supercell(START, (1, 1, 2))) == (4, 3, 1)


def test_of_two_start_cells_of_one_composition_the_nearer_one_is_kept():
    flat = cell_of(15.5, 10.0, 8.0)
    points = kept(0.5, START, flat)
    assert mesh_of(points, START) == (2, 2, 1)
    assert mesh_of(points, flat) == (1, 2, 2)


def test_a_composition_of_no_start_cell_takes_its_own_mesh():
    other = cell_of(5.0, 5.0, 5.0, ("Na", "F"))
    assert mesh_of(kept(0.5, START), other) == (3, 3, 3)


def test_kept_meshes_travel_as_plain_values():
    points = kept(0.25, START, cell_of(4.0, 4.0, 4.0, ("Na", "F")))
    assert POINTS.validate_json(POINTS.dump_json(points)) == points


def level(*starts: Frames) -> LevelOfTheory:
    points = kept(0.25, *starts)
    settings = {"k-points": description(points)}
    return LevelOfTheory(code="gpaw", settings=settings, start_cells=points.start_cells)


def test_the_key_tells_the_kept_mesh_of_the_frames_elements_alone():
    sodium = cell_of(4.0, 4.0, 4.0, ("Na", "F"))
    one, both = level(START), level(sodium, START)
    assert one.hash != level(cell_of(5.0, 10.0, 15.0)).hash
    assert both.of(START.species).hash == one.of(START.species).hash == one.hash
    assert both.of(sodium.species).hash == level(sodium).hash
    assert "F1Li1 4×3×2" in one.description
    assert both.hash == level(START, sodium, START).hash


def test_the_cost_of_kpoints_is_estimated_by_their_number():
    assert n_points("gamma", 50) == 1
    assert n_points((2, 2, 1), 50) == 4
    assert n_points(0.5, 50) == n_points(Kept(kept=0.5), 50) == 8
    assert n_points(0.5, 1000) == 1
