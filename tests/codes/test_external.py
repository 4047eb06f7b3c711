from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ionloop.codes.common.ase import calculate
from ionloop.codes.external.requests import find_request, write_requests
from ionloop.codes.external.settings import ExternalSettings, level_of_theory
from ionloop.codes.forcefield.model import calculator
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.formats.reading import read_frames
from ionloop.geometry.matching import fit
from ionloop.geometry.perturb import perturb
from ionloop.schemas.frames import Frames

EMT = calculator(ForceFieldSettings(model="ase.calculators.emt:EMT"))
START = Frames(
    ("Cu", "Cu", "Au", "Cu", "Au"),
    np.array([[[0, 0, 0], [0, 1.9, 1.9], [1.9, 0, 1.9], [1.9, 1.9, 0.1], [3.9, 1.9, 1.9]]]),
    np.array([[[5.8, 0, 0], [0.3, 3.8, 0], [0.1, -0.2, 3.9]]]),
)
REQUESTS = perturb(START, 6, displacement=0.15, strain=0.03, seed=2)


def labelled(frame: Frames) -> Frames:
    result = calculate(EMT, frame)
    assert result.virial is not None
    return replace(
        frame,
        energies=np.array([result.energy]),
        forces=result.forces[None],
        virials=result.virial[None],
    )


def disguised(frame: Frames, seed: int, noise: float = 2e-4) -> Frames:
    """Turn, permute, wrap and round a labelled frame as programs and readers do."""
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    order = rng.permutation(frame.n_atoms)
    images = rng.integers(-2, 3, (frame.n_atoms, 3)) @ frame.cells[0]
    positions = frame.positions[0] + images + rng.uniform(-noise, noise, (frame.n_atoms, 3))
    assert frame.forces is not None and frame.virials is not None
    return replace(
        frame,
        symbols=tuple(frame.symbols[i] for i in order),
        positions=(positions @ turn)[None, order],
        cells=frame.cells @ turn,
        forces=frame.forces[:, order] @ turn,
        virials=turn.T @ frame.virials @ turn,
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.integers(0, 10_000))
def test_labels_come_back_in_the_order_and_orientation_of_the_request(index, seed):
    request, label = REQUESTS[index], labelled(REQUESTS[index])
    requests = {frame.ids[0]: frame for frame in (REQUESTS[i] for i in range(6))}
    match = find_request(disguised(label, seed), requests, 1e-3)
    assert match is not None
    found, fitted = match
    assert found == request.ids[0]
    assert fitted.symbols == request.symbols
    assert np.allclose(fitted.forces, label.forces, atol=1e-9)
    assert np.allclose(fitted.virials, label.virials, atol=1e-9)
    assert np.allclose(fitted.positions, request.positions, atol=1e-3)
    assert np.allclose(fitted.cells, request.cells, atol=1e-9)


def test_the_forces_of_a_turned_frame_are_what_the_turned_frame_gives():
    # The disguise itself is right: EMT on the turned frame gives the turned label.
    label = labelled(REQUESTS[0])
    turned = disguised(label, seed=4, noise=0)
    assert np.allclose(labelled(turned.unlabelled()).forces, turned.forces, atol=1e-8)
    assert np.allclose(labelled(turned.unlabelled()).virials, turned.virials, atol=1e-8)


def test_another_configuration_is_of_no_request():
    requests = {REQUESTS[0].ids[0]: REQUESTS[0]}
    assert find_request(labelled(REQUESTS[1]), requests, 1e-3) is None
    moved = labelled(REQUESTS[0])
    moved.positions[0, 2, 1] += 0.002
    assert fit(REQUESTS[0], moved, 1e-3) is None
    assert fit(REQUESTS[0], moved, 3e-3) is not None


def test_exchanged_species_are_another_configuration():
    label = labelled(REQUESTS[0])
    exchanged = replace(label, symbols=("Au", "Cu", "Cu", "Cu", "Au"))
    assert fit(REQUESTS[0], exchanged, 1e-3) is None
    alloy = replace(label, symbols=("Au", "Cu", "Au", "Cu", "Au"))
    assert find_request(alloy, {"x": REQUESTS[0]}, 1e-3) is None


def test_a_strained_cell_is_another_configuration():
    label = labelled(REQUESTS[0])
    strained = replace(label, cells=label.cells * 1.001, positions=label.positions * 1.001)
    assert fit(REQUESTS[0], strained, 1e-3) is None


def test_requests_are_written_and_nothing_is_removed(tmp_path):
    folder = tmp_path / "to_label"
    write_requests([REQUESTS[0], REQUESTS[1]], folder)
    (folder / "OUTCAR").write_text("a result")
    write_requests([REQUESTS[1]], folder)
    assert (folder / "OUTCAR").exists()
    names = sorted(path.name for path in folder.glob("*.vasp"))
    assert names == sorted(f"Cu3Au2-{i}.vasp" for i in REQUESTS[:2].ids)
    for index in (0, 1):
        (read,) = read_frames(folder / f"Cu3Au2-{REQUESTS.ids[index]}.vasp")
        assert read.ids == REQUESTS[index].ids
    (together,) = read_frames(folder / "frames.extxyz")
    assert together.ids == REQUESTS[1].ids


def test_a_dpdata_outcar_is_recognised(tmp_path):
    # dpdata turns the cell of a triclinic system; its deepmd format does not.
    import dpdata

    from ionloop.formats.dpdata import from_dpdata, to_dpdata

    system = to_dpdata(labelled(REQUESTS[2]))
    assert isinstance(system, dpdata.LabeledSystem)
    system.rot_lower_triangular()
    system.sort_atom_types()
    match = find_request(from_dpdata(system), {"x": REQUESTS[2]}, 1e-3)
    assert match is not None
    assert np.allclose(match[1].forces, labelled(REQUESTS[2]).forces, atol=1e-8)
    assert np.allclose(match[1].virials, labelled(REQUESTS[2]).virials, atol=1e-6)


def test_the_level_is_its_words():
    first = level_of_theory(ExternalSettings(level="PBE, 500 eV"))
    assert "PBE, 500 eV" in first.description
    assert first.hash != level_of_theory(ExternalSettings(level="PBE, 400 eV")).hash
    with pytest.raises(ValueError, match="level"):
        ExternalSettings(level="")
