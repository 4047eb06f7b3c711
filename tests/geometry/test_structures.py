from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ionloop.formats.ase import to_ase
from ionloop.formats.reading import load_structures
from ionloop.formats.writing import poscars, write_frames
from ionloop.geometry.periodic import supercell
from ionloop.geometry.perturb import perturb
from ionloop.schemas.frames import Frames

CELL = np.array([[5.0, 0, 0], [1, 6, 0], [0, 1, 7]])
POSITIONS = np.random.default_rng(0).uniform(0, 5, (1, 40, 3))
FRAME = Frames(("Li",) * 30 + ("S",) * 10, POSITIONS, CELL[None]).snapped()


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 0.5), st.floats(0, 0.2), st.integers(0, 2**32))
def test_perturbation_stays_within_its_limits(displacement, strain, seed):
    frames = perturb(FRAME, 3, displacement, strain, seed)
    assert len(frames) == 3
    for index in range(3):
        deformation = np.linalg.solve(CELL, frames.cells[index])
        change = deformation - np.eye(3)
        assert np.allclose(change, change.T, atol=1e-6)
        assert abs(np.diag(change)).max() <= strain + 1e-6
        assert abs(change - np.diag(np.diag(change))).max() <= strain / 2 + 1e-6
        moves = frames.positions[index] - FRAME.positions[0] @ deformation
        assert np.linalg.norm(moves, axis=1).max() <= displacement + 1e-4


def test_perturbations_fill_the_ball_evenly():
    frames = perturb(FRAME, 500, displacement=0.2, strain=0.0)
    moves = (frames.positions - FRAME.positions) / 0.2
    radii = np.linalg.norm(moves, axis=2).ravel()
    assert (radii**3).mean() == pytest.approx(0.5, abs=0.01)
    assert abs(moves.mean(axis=(0, 1))).max() < 0.02
    assert np.array_equal(frames.cells, np.repeat(CELL[None], 500, axis=0))


def test_perturbation_is_reproducible_and_grows():
    assert perturb(FRAME, 5, seed=3) == perturb(FRAME, 5, seed=3)
    assert perturb(FRAME, 9, seed=3)[:5] == perturb(FRAME, 5, seed=3)
    assert not set(perturb(FRAME, 5, seed=3).ids) & set(perturb(FRAME, 5, seed=4).ids)


def test_perturbed_frames_are_on_the_grid_and_different():
    frames = perturb(FRAME, 20, 0.1, 0.03)
    assert frames.snapped() == frames
    assert len(set(frames.ids)) == 20


def test_every_frame_is_perturbed_and_the_original_may_come_first():
    two = perturb(FRAME, 2, 0.1, 0.02)
    frames = perturb(two, 3, 0.1, 0.02, include_original=True)
    assert len(frames) == 8
    assert (frames.ids[0], frames.ids[4]) == two.ids
    assert len(perturb(FRAME, 0)) == 0
    assert perturb(FRAME, 0, include_original=True) == FRAME


@pytest.mark.parametrize("change", [{"displacement": -0.1}, {"strain": -0.1}, {"strain": 0.9}])
def test_impossible_perturbations_are_refused(change):
    with pytest.raises(ValueError, match="displacement"):
        perturb(FRAME, 1, **change)


def test_supercell_has_the_same_surroundings():
    small = FRAME[:1]
    large = supercell(small, (2, 1, 3))
    assert large.formula == "Li180S60"
    assert large.symbols[:180] == ("Li",) * 180
    assert large.volumes[0] == pytest.approx(6 * small.volumes[0])
    (a,), (b,) = to_ase(small), to_ase(large)
    near = np.sort(a.get_all_distances(mic=True)[0])[:5]
    image = np.sort(b.get_all_distances(mic=True)[3])[:5]
    assert image[1] <= near[1] + 1e-9
    assert np.allclose(np.sort(b.get_all_distances(mic=True)[0])[:3], image[:3])


def test_supercell_of_one_is_the_frame_and_zero_is_refused():
    assert supercell(FRAME, (1, 1, 1)) == FRAME
    with pytest.raises(ValueError, match="1 or more"):
        supercell(FRAME, (1, 0, 1))


def test_supercell_matches_ase_up_to_order():
    (atoms,) = to_ase(FRAME)
    repeated = atoms.repeat((2, 2, 1))
    large = supercell(FRAME, (2, 2, 1))

    def rows(symbols, positions):
        return sorted(zip(symbols, *np.round(positions, 6).T.tolist(), strict=True))

    assert rows(large.symbols, large.positions[0]) == rows(
        repeated.get_chemical_symbols(), repeated.positions
    )
    assert np.allclose(large.cells[0], repeated.cell.array)


def test_load_structures_joins_compositions_and_drops_labels(tmp_path):
    frames = perturb(FRAME, 2, 0.1, 0.02)
    (tmp_path / "POSCAR_0").write_text(poscars(frames)[0])
    (tmp_path / "POSCAR_1").write_text(poscars(frames)[1])
    place = np.zeros((1, 1, 3))
    other = Frames(("P",), place, CELL[None], energies=np.zeros(1), forces=np.zeros((1, 1, 3)))
    write_frames(other, tmp_path / "p.xyz", "extxyz")
    loaded = load_structures([tmp_path / name for name in ("POSCAR_0", "p.xyz", "POSCAR_1")])
    assert loaded == [frames, other.unlabelled()]
