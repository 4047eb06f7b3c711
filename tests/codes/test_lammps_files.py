import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ionloop.codes.common.progress import read_last_row
from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.codes.lammps.cell import RestrictedCell, data_file
from ionloop.codes.lammps.output import read_dump, read_rows
from ionloop.codes.lammps.restart import legs
from ionloop.codes.lammps.script import PAIR_STYLES, input_script
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.schemas.frames import Frames

CELL = np.array([[4.0, 0.5, 0.0], [1.0, 5.0, 0.2], [0.3, -0.4, 6.0]])
START = Frames(("Li", "S"), np.array([[[0.1, 0.2, 0.3], [2.0, 2.5, -3.0]]]), CELL[None])

coordinates = st.floats(-20, 20)


@st.composite
def cells(draw):
    cell = draw(arrays(float, (3, 3), elements=coordinates))
    lengths = np.linalg.norm(cell, axis=1)
    volume = abs(cell[0] @ np.cross(cell[1], cell[2]))
    if lengths.min() < 0.5 or volume < 1e-2 * lengths.prod():
        cell = cell + 100 * np.eye(3)  # diagonally dominant
    return cell


def task(**changes):
    values = {
        "index": 7,
        "start": START,
        "temperature": 300.0,
        "pressure": 2.0,
        "seed": 5,
        "ensemble": "nvt",
        "steps": 20,
        "timestep": 2.0,
        "dump_every": 10,
    }
    return TrajectoryTask(**values | changes)


@given(cells())
def test_restricted_cell_is_what_lammps_takes(cell):
    a, b, c = RestrictedCell.of(cell).cell
    assert [a[1], a[2], b[2]] == [0, 0, 0]
    assert min(a[0], b[1], c[2]) > 0
    assert abs(b[0]) <= a[0] / 2 * (1 + 1e-9)
    assert abs(c[0]) <= a[0] / 2 * (1 + 1e-9)
    assert abs(c[1]) <= b[1] / 2 * (1 + 1e-9)


@given(cells(), arrays(float, (4, 3), elements=coordinates))
def test_restricted_cell_there_and_back(cell, positions):
    restricted = RestrictedCell.of(cell)
    there = restricted.vectors(positions)
    np.testing.assert_allclose(restricted.vectors_back(there), positions, atol=1e-12)
    np.testing.assert_allclose(restricted.cells_back(restricted.cell), cell, atol=1e-9)
    np.testing.assert_allclose(there @ there.T, positions @ positions.T, atol=1e-9)


@given(cells(), arrays(float, (3,), elements=st.integers(-3, 3)))
def test_restricted_cell_spans_the_same_lattice(cell, multiples):
    restricted = RestrictedCell.of(cell)
    fractions = np.linalg.solve(restricted.cell.T, restricted.vectors(multiples @ cell))
    np.testing.assert_allclose(fractions, np.rint(fractions), atol=1e-6)
    assert abs(np.linalg.det(restricted.reduction)) == pytest.approx(1)


def test_data_file_declares_every_type_of_the_map():
    text = data_file(START, ["Ge", "S", "Li"])
    assert "2 atoms\n3 atom types" in text
    assert "Masses\n\n1 72.63\n2 32.06\n3 6.94\n" in text
    first, second = text.splitlines()[-2:]
    assert first.split()[:2] == ["1", "3"]
    assert second.split()[:2] == ["2", "2"]


def test_data_file_names_the_element_that_the_potential_lacks():
    with pytest.raises(ValueError, match=r"not trained on S of Li1S1.*type map is Li Ge"):
        data_file(START, ["Li", "Ge"])


def test_input_script_in_metal_units():
    script = input_script(task(), ["a.pb", "b.pb"], ["Li", "S"], LammpsSettings())
    lines = script.splitlines()
    assert "pair_style deepmd a.pb b.pb out_freq 10 out_file trajectory-0007.deviation" in lines
    assert "timestep 0.002" in lines
    assert "fix motion all nve" in lines
    assert "fix thermostat all langevin 300 300 0.1 6 zero yes" in lines
    assert "variable temperature equal temp-0*exp(-step*0.02)" in lines
    assert "fix hot all halt 1 v_temperature > 1500 error continue" in lines
    assert "run 20" in lines
    assert not any(line.startswith(("write_restart", "read_restart")) for line in lines)


def test_every_leg_of_a_trajectory_is_driven_by_the_same_model():
    models, settings = ["a.pb", "b.pb", "c.pb"], LammpsSettings(restart_every=10)
    script = input_script(task(steps=50, driver=7), models, ["Li"], settings)
    lines = [line for line in script.splitlines() if line.startswith("pair_style")]
    assert len(lines) == 5
    assert all(line.startswith("pair_style deepmd b.pb c.pb a.pb out_freq") for line in lines)


def test_a_perturbed_start_may_be_hot_until_the_thermostat_has_its_heat():
    warm = task(heat=500.0)
    assert "equal temp-500*exp(-step*0.02)" in input_script(warm, [], [], LammpsSettings())
    assert warm.heat_at(np.array([0, 50, 500]), 100.0) == pytest.approx([500, 183.94, 0.0227], 1e-3)


@pytest.mark.parametrize(
    ("ensemble", "style"), [("iso", "iso"), ("aniso", "aniso"), ("tri", "tri")]
)
def test_input_script_barostats(ensemble, style):
    script = input_script(task(ensemble=f"npt-{ensemble}"), ["a.pb"], ["Li"], LammpsSettings())
    assert f"fix motion all nph {style} 2 2 0.5 fixedpoint 0 0 0\n" in script


@given(st.integers(0, 2**64))
def test_input_script_seeds_are_in_lammps_range(seed):
    script = input_script(task(seed=seed), ["a.pb"], ["Li"], LammpsSettings())
    line = next(line for line in script.splitlines() if line.startswith("velocity"))
    assert 0 < int(line.split()[4]) < 900_000_000


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 700))
def test_legs_cover_a_trajectory_and_meet_where_a_frame_is(steps, dump_every, restart_every):
    settings = LammpsSettings(restart_every=restart_every)
    whole = legs(task(steps=steps, dump_every=dump_every), settings)
    assert [leg.first for leg in whole] == [0, *(leg.last for leg in whole[:-1])]
    assert whole[-1].last == steps
    assert [leg.is_final for leg in whole] == [False] * (len(whole) - 1) + [True]
    assert all(leg.first < leg.last for leg in whole)
    assert all(leg.first % dump_every == 0 for leg in whole)
    assert all(leg.last - leg.first >= restart_every for leg in whole[:-1])
    assert len({name for leg in whole for name in leg.outputs}) == 4 * len(whole)


def test_input_script_of_several_legs():
    settings = LammpsSettings(restart_every=15)
    whole = input_script(task(steps=50), ["a.pb"], ["Li"], settings)
    assert whole.count("velocity all create") == 1
    assert [line for line in whole.splitlines() if line.startswith("run ")] == ["run 20"] * 2 + [
        "run 10"
    ]
    left = input_script(task(steps=50), ["a.pb"], ["Li"], settings, first_leg=1)
    opening, _, rest = left.partition("log ")
    assert opening == "variable began timer\n"
    assert whole.endswith(f"log {rest}")
    assert "read_data" not in left
    assert "velocity" not in left
    assert left.count("read_restart") == 2
    # The thermostat must not begin its random numbers again with every leg.
    seeds = [line.split()[7] for line in whole.splitlines() if line.startswith("fix thermostat")]
    assert seeds == ["6", "7", "8"]


DEVIATION = """\
#       step         max_devi_v         min_devi_v         avg_devi_v         max_devi_f  ...
           0       1.969193e-01       0.000000e+00       1.045817e-01       1.5e-01 0.1 0.2
          10               -nan                nan                nan       inf     nan nan
"""


def test_read_rows_with_nan_and_an_unfinished_line(tmp_path):
    path = tmp_path / "deviation"
    path.write_text(DEVIATION + "          20   1.0")
    rows = read_rows(path, 7)
    assert rows[:, 0].tolist() == [0, 10]
    assert rows[0, 4] == 0.15
    assert np.isnan(rows[1, 1])
    assert np.isinf(rows[1, 4])


def test_read_rows_of_nothing(tmp_path):
    assert read_rows(tmp_path / "absent", 7).shape == (0, 7)
    (tmp_path / "begun").write_text("# step\n")
    assert read_rows(tmp_path / "begun", 7).shape == (0, 7)


def test_read_last_row(tmp_path):
    path = tmp_path / "deviation"
    assert read_last_row(path) is None
    path.write_text("# step\n")
    assert read_last_row(path) is None
    path.write_text("# step\n" + "".join(f"{i:50d} {i / 2}\n" for i in range(100)) + "100 5")
    last = read_last_row(path)
    assert last is not None
    assert last.tolist() == [99, 49.5]


def dump(cell, steps, positions):
    (a, _, _), (xy, b, _), (xz, yz, c) = cell
    tilts = [0, xy, xz, xy + xz]
    box = f"{min(tilts)} {a + max(tilts)} {xy}\n{min(0, yz)} {b + max(0, yz)} {xz}\n0 {c} {yz}\n"
    atoms = "".join(f"{i} {x:.12g} {y:.12g} {z:.12g}\n" for i, (x, y, z) in enumerate(positions, 1))
    return "".join(
        f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{len(positions)}\n"
        f"ITEM: BOX BOUNDS xy xz yz pp pp pp\n{box}ITEM: ATOMS id xu yu zu\n{atoms}"
        for step in steps
    )


def restricted_dump(steps):
    restricted = RestrictedCell.of(CELL)
    return dump(restricted.cell.tolist(), steps, restricted.vectors(START.positions[0]))


def test_read_dump_gives_the_start_back(tmp_path):
    path = tmp_path / "dump"
    path.write_text(restricted_dump([0, 10]))
    steps, frames = read_dump(path, START)
    assert steps.tolist() == [0, 10]
    assert frames.snapped().ids == START.ids * 2
    np.testing.assert_allclose(frames.cells, [CELL, CELL], atol=1e-12)


@pytest.mark.parametrize("lost", [1, 30, 60])
def test_read_dump_leaves_the_unfinished_frame_out(tmp_path, lost):
    path = tmp_path / "dump"
    path.write_text(restricted_dump([0, 10])[:-lost])
    assert read_dump(path, START)[0].tolist() == [0]


def test_read_dump_ends_where_atoms_are_lost(tmp_path):
    path = tmp_path / "dump"
    one_atom = dump(CELL.tolist(), [10], START.positions[0, :1])
    path.write_text(restricted_dump([0]) + one_atom + restricted_dump([20]))
    assert read_dump(path, START)[0].tolist() == [0]


def test_read_dump_of_nothing(tmp_path):
    steps, frames = read_dump(tmp_path / "absent", START)
    assert len(steps) == len(frames) == 0
    assert frames.symbols == START.symbols


def test_the_pair_style_is_that_of_the_kind_of_potential(monkeypatch):
    monkeypatch.setitem(PAIR_STYLES, "other", "other {models} to {deviation} each {every}")
    made = input_script(task(), ["a", "b"], ["Li", "S"], LammpsSettings(), kind="other")
    name, every = task().name, task().dump_every
    assert f"pair_style other a b to {name}.deviation each {every}\npair_coeff * * Li S\n" in made
