from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import dpdata
import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ionloop.formats.ase import from_ase, to_ase
from ionloop.formats.dpdata import from_dpdata, to_dpdata
from ionloop.formats.errors import FrameFileError
from ionloop.formats.pymatgen import from_pymatgen, to_pymatgen
from ionloop.formats.reading import read_frames, unconverged
from ionloop.formats.writing import poscars, write_frames
from ionloop.schemas.frames import Frames

LGPS_DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not LGPS_DATA.exists(), reason="the published LGPS data is absent")
COORDINATE = st.floats(-50, 50, allow_subnormal=False)
LABEL = st.floats(-1e4, 1e4)


@st.composite
def any_frames(draw, labelled=None):
    f, n = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    symbols = draw(st.lists(st.sampled_from(["Li", "Ge", "P", "S"]), min_size=n, max_size=n))
    skew = draw(arrays(float, (f, 3, 3), elements=st.floats(-1, 1)))
    labels = {}
    if draw(st.booleans()) if labelled is None else labelled:
        labels["energies"] = draw(arrays(float, (f,), elements=LABEL))
        labels["forces"] = draw(arrays(float, (f, n, 3), elements=LABEL))
        labels["level"] = draw(st.sampled_from([None, "0123456789ab"]))
        if draw(st.booleans()):
            labels["virials"] = draw(arrays(float, (f, 3, 3), elements=LABEL))
    positions = draw(arrays(float, (f, n, 3), elements=COORDINATE))
    return Frames(tuple(symbols), positions, 6 * np.eye(3) + skew, **labels)


def labelled(symbols=("Li", "S", "Li", "P"), f=3, seed=0):
    random = np.random.default_rng(seed)
    n = len(symbols)
    return Frames(
        symbols=symbols,
        positions=random.uniform(-3, 9, (f, n, 3)),
        cells=np.eye(3) * 6 + random.normal(0, 0.5, (f, 3, 3)),
        energies=random.normal(size=f) * 100,
        forces=random.normal(size=(f, n, 3)),
        virials=random.normal(size=(f, 3, 3)),
        level="0123456789ab",
    )


@settings(max_examples=50, deadline=None)
@given(any_frames())
def test_ase_round_trip_is_exact(frames):
    (back,) = from_ase(to_ase(frames))
    assert back == frames
    assert back.ids == frames.ids


@settings(max_examples=50, deadline=None)
@given(any_frames())
def test_pymatgen_round_trip_is_exact(frames):
    (back,) = from_pymatgen(to_pymatgen(frames))
    assert back == frames
    assert back.ids == frames.ids


@settings(max_examples=50, deadline=None)
@given(any_frames())
def test_dpdata_round_trip_is_exact(frames):
    back = from_dpdata(to_dpdata(frames), level=frames.level)
    assert back == frames
    assert back.ids == frames.ids


def test_pymatgen_round_trip_survives_its_own_serialisation():
    frames = labelled()
    structures = to_pymatgen(frames)
    (back,) = from_pymatgen([type(s).from_dict(s.as_dict()) for s in structures])
    assert back == frames


def test_moved_pymatgen_sites_are_believed():
    (structure,) = to_pymatgen(labelled(f=1).unlabelled())
    structure.translate_sites([0], [0.1, 0, 0], frac_coords=False, to_unit_cell=False)
    (moved,) = from_pymatgen([structure])
    change = moved.positions - labelled(f=1).positions
    assert change[0, 0] == pytest.approx([0.1, 0, 0])
    assert abs(change[0, 1:]).max() < 1e-12


def test_ase_stress_is_minus_virial_over_volume():
    frames = labelled(f=1)
    (atoms,) = to_ase(frames)
    symmetric = (frames.virials[0] + frames.virials[0].T) / 2
    assert atoms.get_stress(voigt=False) == pytest.approx(-symmetric / frames.volumes[0])
    del atoms.info["virial"]
    assert from_ase([atoms])[0].virials[0] == pytest.approx(symmetric, rel=1e-12)


def test_a_virial_left_from_another_calculation_is_not_believed():
    (atoms,) = to_ase(labelled(f=1))
    atoms.calc.results["stress"] = np.array([0.1, 0.2, 0.3, 0, 0, 0])
    virial = from_ase([atoms])[0].virials[0]
    assert np.diag(virial) == pytest.approx(-atoms.get_volume() * np.array([0.1, 0.2, 0.3]))


def test_results_of_other_positions_are_no_label():
    (atoms,) = to_ase(labelled(f=1))
    atoms.positions[0, 0] += 0.1
    assert not from_ase([atoms])[0].is_labelled


def test_the_free_energy_is_taken_and_constraints_do_not_touch_forces():
    from ase.constraints import FixAtoms

    frames = labelled(f=1)
    (atoms,) = to_ase(frames)
    atoms.calc.results["free_energy"] = -1.25
    atoms.set_constraint(FixAtoms([0, 1]))
    (back,) = from_ase([atoms])
    assert back.energies[0] == -1.25
    assert np.array_equal(back.forces, frames.forces)


def test_several_compositions_in_a_list():
    a, b = labelled(), labelled(("S", "S", "Li"), f=2)
    images = to_ase(a[:1]) + to_ase(b) + to_ase(a[1:])
    assert from_ase(images) == [a, b]
    assert [from_dpdata(to_dpdata(part), level=a.level) for part in (a, b)] == [a, b]


def test_no_cell_and_unknown_elements_are_refused():
    from ase import Atoms

    with pytest.raises(ValueError, match="no three lattice vectors"):
        from_ase([Atoms("H2")])
    with pytest.raises(ValueError, match="X are no chemical symbols"):
        from_ase([Atoms("X", cell=[5, 5, 5])])


MIXED = [labelled(), replace(labelled(("S", "Li"), f=2), virials=None), labelled(("S", "Li", "P"))]


@pytest.mark.parametrize(("fmt", "name"), [("deepmd/npy", "data"), ("deepmd/hdf5", "data.h5")])
def test_deepmd_files_are_exact(tmp_path, fmt, name):
    write_frames(MIXED, tmp_path / name, fmt)
    for given_fmt in (fmt, None):
        back = read_frames(tmp_path / name, given_fmt)
        found = {part.formula: replace(part, level=MIXED[0].level) for part in back}
        assert found == {part.formula: part for part in MIXED}


@pytest.mark.parametrize(("fmt", "name"), [("deepmd/npy", "data"), ("deepmd/hdf5", "data.h5")])
def test_bare_frames_and_two_orders_in_deepmd_files(tmp_path, fmt, name):
    parts = [labelled(("Li", "S")).unlabelled(), labelled(("S", "Li")).unlabelled()]
    parts.append(labelled(("Li", "Li", "S", "S")).unlabelled())
    parts.append(labelled(("Li", "S", "Li", "S")).unlabelled())
    write_frames(parts, tmp_path / name, fmt)
    back = read_frames(tmp_path / name)
    assert {part.symbols: part for part in back} == {part.symbols: part for part in parts}


def test_mixed_type_deepmd_data(tmp_path):
    systems = dpdata.MultiSystems(*map(to_dpdata, MIXED[::2]))
    systems.to("deepmd/npy/mixed", str(tmp_path / "mixed"))
    back = read_frames(tmp_path / "mixed")
    assert {i for part in back for i in part.ids} == {i for part in MIXED[::2] for i in part.ids}


def test_extxyz_keeps_all_frames_labels_and_ids(tmp_path):
    parts = [part.snapped() for part in MIXED]
    write_frames(parts, tmp_path / "all.xyz", "extxyz")
    back = read_frames(tmp_path / "all.xyz")
    assert [part.ids for part in back] == [part.ids for part in parts]
    for new, old in zip(back, parts, strict=True):
        assert np.array_equal(new.positions, old.positions)
        assert np.array_equal(new.energies, old.energies)
        assert new.forces == pytest.approx(old.forces, abs=1e-8)
        assert new.level == old.level
        assert (new.virials is None) == (old.virials is None)
    assert np.array_equal(back[0].virials, parts[0].virials)


@settings(max_examples=20, deadline=None)
@given(frames=any_frames(labelled=False))
def test_snapped_frames_keep_their_ids_through_poscar_text(tmp_path_factory, frames):
    snapped = frames.snapped()
    folder = tmp_path_factory.mktemp("poscar")
    for frame_id, text in zip(snapped.ids, poscars(snapped), strict=True):
        (folder / "POSCAR").write_text(text)
        (back,) = read_frames(folder / "POSCAR")
        assert back.ids == (frame_id,)
        assert back.symbols == snapped.symbols


def test_poscar_files_are_named_by_id(tmp_path):
    frames = labelled().snapped()
    write_frames(frames, tmp_path / "picked", "poscar")
    files = sorted((tmp_path / "picked").iterdir())
    assert {file.name for file in files} == {f"Li2S1P1-{i}.vasp" for i in frames.ids}
    for file in files:
        (frame_id,) = read_frames(file)[0].ids
        assert file.read_text().splitlines()[0] == f"Li2S1P1 {frame_id}"


def test_levels_are_never_mixed_in_one_file(tmp_path):
    parts = [labelled(), replace(labelled(), level="other")]
    with pytest.raises(FrameFileError, match="several levels of theory"):
        write_frames(parts, tmp_path / "x.xyz", "extxyz")


def test_full_folders_and_unknown_formats_are_refused(tmp_path):
    (tmp_path / "old").touch()
    with pytest.raises(FrameFileError, match="not empty"):
        write_frames(labelled(), tmp_path, "deepmd/npy")
    with pytest.raises(FrameFileError, match="choose one of deepmd/npy"):
        write_frames(labelled(), tmp_path / "x", "lammps")


DISORDERED = """data_x
_cell_length_a 5
_cell_length_b 5
_cell_length_c 5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Li1 Li 0 0 0 {occupancy}
Cl1 Cl 0.5 0.5 0.5 1
"""


@pytest.mark.filterwarnings("ignore:Issues encountered while parsing CIF:UserWarning")
def test_cif(tmp_path):
    path = tmp_path / "LiCl.cif"
    path.write_text(DISORDERED.format(occupancy=1))
    (frames,) = read_frames(path)
    assert frames.symbols == ("Li", "Cl")
    assert frames.positions[0] == pytest.approx(np.array([[0, 0, 0], [2.5, 2.5, 2.5]]))
    path.write_text(DISORDERED.format(occupancy=0.5))
    with pytest.raises(
        FrameFileError, match=r"LiCl.cif: 1 of 2 sites are partly occupied \(Li:0.5"
    ):
        read_frames(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("POSCAR", "", "POSCAR is empty; put"),
        ("x.cif", "", "is empty"),
        ("POSCAR", "no\nstructure\n", "cannot be read as vasp"),
        ("x.cif", "nothing", "cannot be read as cif"),
        ("OUTCAR", "nothing", "cannot be read as vasp/outcar"),
        ("x.h5", "nothing", "cannot be read as deepmd/hdf5"),
        ("notes", "hello", "the format of .*notes cannot be told; write it in a usual format"),
        ("m.xyz", "2\n\nH 0 0 0\nH 0 0 1\n", "no three lattice vectors"),
    ],
)
def test_bad_files_are_named_with_the_cure(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(FrameFileError, match=words) as caught:
        read_frames(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(("key", "told"), [("", False), ("--format", True)])
@pytest.mark.parametrize("name", ["notes", "notes.vasp", "folder"])
def test_to_name_the_format_is_told_where_something_takes_it(tmp_path, name, key, told):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    else:
        path.write_text("hello")
    with pytest.raises(FrameFileError) as caught:
        read_frames(path, format_key=key)
    assert ("--format" in str(caught.value)) is told
    assert "name its format" not in str(caught.value) or told


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("fmt", ["deepmd/npy", "deepmd/hdf5", "extxyz"])
@pytest.mark.parametrize(
    ("name", "place", "words"),
    [
        ("forces", (1, 2, 0), r"frame 2, atom 3 \(P\): the force holds"),
        ("energies", (2,), "frame 3: the energy holds"),
        ("positions", (0, 1, 2), r"frame 1, atom 2 \(S\): the position holds"),
    ],
)
def test_nan_in_data_is_named_with_file_frame_and_atom(tmp_path, fmt, name, place, words, value):
    frames = labelled(("Li", "S", "P"))
    getattr(frames, name)[place] = value
    path = tmp_path / ("data.extxyz" if fmt == "extxyz" else "data")
    write_frames(frames, path, fmt)
    with pytest.raises(FrameFileError, match=f"{words} {value}; remove the frame") as caught:
        read_frames(path, fmt)
    assert str(caught.value).startswith(str(path))


def test_nan_in_one_of_several_systems_is_named_with_its_folder(tmp_path):
    frames = [labelled(("Li", "S")), labelled(("Li", "P"))]
    frames[1].cells[2, 0, 0] = np.nan
    write_frames(frames, tmp_path / "data", "deepmd/npy")
    with pytest.raises(FrameFileError, match=r"data: Li1P1, frame 3: the cell holds nan"):
        read_frames(tmp_path / "data")


def test_frames_are_counted_in_the_order_of_the_file(tmp_path):
    import ase.io

    images = to_ase(labelled(("Li", "S")))[:1] + to_ase(labelled(("Li", "P")))
    images[2].calc.results["forces"][1, 1] = np.inf
    ase.io.write(tmp_path / "x.extxyz", images)
    with pytest.raises(FrameFileError, match=r"frame 3, atom 2 \(P\): the force holds inf"):
        read_frames(tmp_path / "x.extxyz")


def test_missing_paths_empty_folders_and_mistyped_formats(tmp_path):
    with pytest.raises(FrameFileError, match="does not exist"):
        read_frames(tmp_path / "absent")
    with pytest.raises(FrameFileError, match="no DeePMD system"):
        read_frames(tmp_path)
    with pytest.raises(FrameFileError, match=r"there is no type\.raw"):
        read_frames(tmp_path, "deepmd/npy")
    (tmp_path / "file").write_text("x")
    with pytest.raises(FrameFileError, match="did you mean vasp/outcar"):
        read_frames(tmp_path / "file", "vasp/outcra")


def test_numbers_without_symbols_need_a_type_map(tmp_path):
    frames = labelled(("Li", "S"))
    write_frames(frames, tmp_path / "data", "deepmd/npy")
    (tmp_path / "data" / "Li1S1" / "type_map.raw").unlink()
    with pytest.raises(FrameFileError, match="give type_map"):
        read_frames(tmp_path / "data")
    with pytest.raises(FrameFileError, match="has 2 types, but type_map names only Li"):
        read_frames(tmp_path / "data", type_map=["Li"])
    (back,) = read_frames(tmp_path / "data", type_map=["Li", "S"])
    assert replace(back, level=frames.level) == frames


def test_energies_without_forces_are_refused(tmp_path):
    write_frames(labelled(("Li", "S")), tmp_path / "data", "deepmd/npy")
    (tmp_path / "data" / "Li1S1" / "set.000" / "force.npy").unlink()
    with pytest.raises(FrameFileError, match="forces"):
        read_frames(tmp_path / "data")


@pytest.fixture
def vasp_files(monkeypatch):
    """Return a function that gives the text of OUTCAR and vasprun.xml of three steps."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "vasp"))
    outputs = importlib.import_module("vasp_outputs")
    atoms = bulk("Cu", cubic=True)
    tags = dict.fromkeys(outputs.PARAMETERS, 0) | {"ENCUT": 300, "EDIFF": 1e-4, "NELM": 5}
    none = {"forces": np.zeros((4, 3)), "stress": np.zeros((3, 3)), "cell": atoms.cell.array}
    steps = [SimpleNamespace(positions=atoms.positions, energy=-e, **none) for e in (10, 11, 12)]
    kinds = [outputs.Type("PAW_PBE Cu 05Jan2001", "Cu", 4, 11.0)]
    run = outputs.Run({}, tags, (1, 1, 1), kinds, atoms, steps, 3)
    return outputs.outcar(run), outputs.vasprun(run)


def test_frames_whose_scf_did_not_converge_are_left_out_and_counted(tmp_path, vasp_files):
    outcar, vasprun = vasp_files
    (tmp_path / "OUTCAR").write_text(outcar.replace("Iteration    2(   3)", "Iteration    2(   5)"))
    (frames,) = read_frames(tmp_path / "OUTCAR")
    assert frames.energies.tolist() == [-10, -12]
    assert unconverged(tmp_path / "OUTCAR") == 1
    (tmp_path / "vasprun.xml").write_text(vasprun)
    assert unconverged(tmp_path / "vasprun.xml") == 0
    write_frames(frames, tmp_path / "x.extxyz", "extxyz")
    assert unconverged(tmp_path / "x.extxyz") is None


def test_a_file_in_which_nothing_converged_says_so(tmp_path, vasp_files):
    (tmp_path / "OUTCAR").write_text(vasp_files[0].replace("(   3)", "(   5)"))
    with pytest.raises(FrameFileError, match="OUTCAR: it holds no frames whose SCF converged"):
        read_frames(tmp_path / "OUTCAR")


@needs_data
def test_the_published_lgps_data_has_no_duplicates():
    (frames,) = read_frames(LGPS_DATA / "lgps_dpgen" / "init", type_map=["Li", "Ge", "P", "S"])
    assert (frames.formula, len(frames), len(set(frames.ids))) == ("Li20Ge2P4S24", 590, 590)
    assert frames.virials is None
    assert frames.energies.mean() / 50 == pytest.approx(-4.18, abs=0.5)


@needs_data
def test_published_disordered_structures_are_told():
    with pytest.raises(FrameFileError, match=r"Li6PS5Cl.cif: 56 of 76 sites are partly occupied"):
        read_frames(LGPS_DATA / "structures" / "Li6PS5Cl.cif")
    (frames,) = read_frames(LGPS_DATA / "structures" / "LGPS.vasp")
    assert frames.formula == "Li20Ge2P4S24"
