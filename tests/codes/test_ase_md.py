"""Molecular dynamics with ASE calculators: trajectories, restart, and why they stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from ionloop.codes import potentials
from ionloop.codes.ase import AseSettings, run_trajectories
from ionloop.codes.ase.ensemble import Ensemble
from ionloop.codes.common.prediction import ensemble_deviation, ensemble_virial_deviation
from ionloop.codes.common.progress import advance_of
from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames

TOY = Path(__file__).parents[1] / "toy"


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.syspath_prepend(str(TOY))


def crystal():
    atoms = bulk("Li", "fcc", a=3.6, cubic=True).repeat(2)
    atoms.symbols[1::2] = "S"
    return atoms


def start_frame(rattle=0.05):
    atoms = crystal()
    atoms.rattle(rattle, seed=3)
    shift = atoms.cell.array[0]  # atoms outside of the cell
    return Frames(tuple(atoms.symbols), atoms.positions[None] + shift, atoms.cell.array[None])


def make_task(index, **changes):
    values = {
        "index": index,
        "start": start_frame().snapped(),
        "temperature": 300.0,
        "pressure": 1.0,
        "seed": 11,
        "ensemble": "nvt",
        "steps": 40,
        "timestep": 2.0,
        "dump_every": 10,
    }
    return TrajectoryTask(**values | changes)


def run(tasks, folder, models=None, **settings):
    from morse_potentials import KIND, ensemble

    return run_trajectories(tasks, models or ensemble(), AseSettings(**settings), folder, KIND)


def same(one, other):
    columns = ("steps", "max_devi_f", "max_devi_v", "temperatures")
    equal = [np.array_equal(getattr(one, name), getattr(other, name)) for name in columns]
    return one.frames == other.frames and all(equal)


def test_a_trajectory_keeps_its_frames_and_their_deviations(tmp_path):
    from morse_potentials import KIND, ensemble

    (found,) = run([make_task(4)], tmp_path)
    assert found.finished and found.stop_reason == "" and found.seconds > 0
    assert found.steps.tolist() == [0, 10, 20, 30, 40]
    assert found.frames.ids[0] == found.task.start.ids[0]
    assert set(found.frames.groups) == {found.task.group}
    assert found.frames == found.frames.snapped()
    assert found.temperatures[0] == pytest.approx(300)
    np.testing.assert_array_equal(found.frames.cells, np.repeat(found.task.start.cells, 5, axis=0))
    jumps = np.abs(np.diff(found.frames.positions, axis=0)).max()
    assert 0 < jumps < 1.0  # unwrapped
    predicted = potentials.predict(KIND, ensemble(), found.frames, tmp_path)
    expected = ensemble_deviation(predicted.forces)
    np.testing.assert_allclose(found.max_devi_f, expected, rtol=1e-4)
    expected = ensemble_virial_deviation(predicted.virials, found.frames.n_atoms)
    np.testing.assert_allclose(found.max_devi_v, expected, rtol=1e-3)
    assert found.max_devi_f.min() > 1e-3


def test_the_centre_of_mass_rests(tmp_path):
    (found,) = run([make_task(0)], tmp_path)
    weights = np.where(np.array(found.frames.symbols) == "Li", 6.94, 32.06)
    drift = np.diff(weights / weights.sum() @ found.frames.positions, axis=0)
    assert np.abs(drift).max() < 1e-5


def test_the_barostat_moves_what_it_may(tmp_path):
    kinds = ("npt-iso", "npt-aniso", "npt-tri")
    tasks = [make_task(i, ensemble=kind, pressure=1e5) for i, kind in enumerate(kinds)]
    tasks.append(make_task(3, ensemble="npt-iso", pressure=-1e5))
    iso, aniso, tri, pulled = (found.frames.cells[-1] for found in run(tasks, tmp_path))
    off = [np.abs(cell - np.diag(np.diag(cell))).max() for cell in (iso, aniso, tri)]
    assert off[0] < 2e-6 and off[1] < 2e-6 and off[2] > 1e-4
    assert np.ptp(np.diag(iso)) < 2e-6
    assert np.ptp(np.diag(aniso)) > 1e-4
    assert max(map(np.linalg.det, (iso, aniso, tri))) < np.linalg.det(pulled)


def test_the_driving_model_decides_the_path_and_not_the_deviation(tmp_path):
    first, second = run([make_task(0), make_task(1, driver=1)], tmp_path)
    assert second.frames.ids[0] == first.frames.ids[0]
    assert second.frames.ids[-1] != first.frames.ids[-1]
    assert second.max_devi_f[0] == pytest.approx(first.max_devi_f[0])


def test_exploding_trajectories_say_why_and_stop_nobody(tmp_path):
    close = start_frame().positions.copy()
    close[0, 1] = close[0, 0] + [0.02, 0, 0]
    cold = {"start": start_frame(0.2).snapped(), "temperature": 20.0}
    tasks = [
        make_task(0, timestep=200.0),
        make_task(1, start=replace(start_frame(), positions=close)),
        make_task(2),
        make_task(3, **cold),
        make_task(4, **cold, heat=3000.0),
        make_task(5, ensemble="npt-iso", pressure=1e9),
    ]
    found = run(tasks, tmp_path)
    assert [each.finished for each in found] == [0, 0, 1, 0, 1, 0]
    reasons = [each.stop_reason for each in found]
    assert reasons[0] == "the temperature exceeds 1500 K at step 1"
    assert reasons[1].startswith(("two atoms are closer than 0.5 Å at", "max_devi_f exceeds"))
    assert reasons[3].startswith("the temperature exceeds 100 K at step")
    assert reasons[5]
    assert found[0].steps.tolist() == [0] and len(found[1].frames) == 0
    assert found[4].temperatures.max() > 100


def test_a_deviation_ends_a_trajectory_and_the_frames_before_stay(tmp_path):
    calm, tasks = start_frame(0.0).snapped(), []
    tasks = [make_task(0, start=calm)]
    (whole,) = run(tasks, tmp_path / "whole")
    limit = float(np.sort(whole.max_devi_f)[2])
    (cut,) = run(tasks, tmp_path / "cut", stop_max_devi_f=limit)
    first = int(np.argmax(whole.max_devi_f > limit))
    assert cut.steps.tolist() == whole.steps[:first].tolist()
    assert cut.stop_reason == f"max_devi_f exceeds {limit:g} eV/Å at step {10 * first}"
    assert not list((tmp_path / "cut").glob("*.1.npz"))


def test_a_model_that_fails_ends_its_trajectory_alone(tmp_path):
    from morse_potentials import model

    models = [model(depth=0.3, fails=15), model(depth=0.33)]
    found = run([make_task(0), make_task(1, driver=1), make_task(2)], tmp_path, models)
    assert [each.stop_reason for each in found] == 3 * [
        "the potential failed with ValueError: no more"
    ]
    assert [each.steps.tolist() for each in found] == [[0, 10], [], []]


def test_what_is_asked_wrongly_is_refused(tmp_path):
    from morse_potentials import model

    with pytest.raises(InputError, match="two models or more"):
        run([make_task(0)], tmp_path, [model(depth=0.3)])
    with pytest.raises(InputError, match="the same index"):
        run([make_task(0), make_task(0)], tmp_path)
    with pytest.raises(InputError, match=r"no ASE calculator .* kind other"):
        run_trajectories([make_task(0)], 2 * [model()], AseSettings(), tmp_path, "other")


def test_judges_are_asked_only_for_frames_that_are_kept(tmp_path, monkeypatch):
    asked = []
    evaluate = Ensemble.evaluate

    def count(self, number, configurations):
        asked.extend([number] * len(configurations))
        return evaluate(self, number, configurations)

    monkeypatch.setattr(Ensemble, "evaluate", count)
    run([make_task(0)], tmp_path)
    assert (asked.count(0), asked.count(1)) == (41, 5)
    assert advance_of([tmp_path]) is None
    (tmp_path / "trajectory-0000.over").unlink()
    advance = advance_of([tmp_path])
    assert advance is not None
    assert advance.words == "MD step 40 of 40, trajectory 1 of 1"


LONG = {"steps": 400, "dump_every": 10}
KILLED = """
import json, sys
from pathlib import Path
from ionloop.codes.ase import AseSettings, run_trajectories
from ionloop.codes.common.trajectory import TrajectoryTask
from morse_potentials import KIND, ensemble
tasks = json.loads(Path(sys.argv[1]).read_text())
tasks = [TrajectoryTask.model_validate_json(task) for task in tasks]
run_trajectories(tasks, ensemble(), AseSettings(restart_every=100), Path(sys.argv[2]), KIND)
"""


def wait_for(path, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, f"it ended before {path} appeared"
        assert time.monotonic() < deadline, f"{path} did not appear in {seconds} s"
        time.sleep(0.01)


def test_a_killed_trajectory_goes_on_from_its_restart_file(tmp_path):
    """A short trajectory that is over, a long one that is killed, one that has not begun."""
    tasks = [make_task(0), make_task(1, **LONG, ensemble="npt-tri"), make_task(2, seed=5)]
    (tmp_path / "tasks.json").write_text(json.dumps([task.model_dump_json() for task in tasks]))
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "tasks.json"), str(folder)]
    paths = os.pathsep.join([str(TOY), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}) as process:
        wait_for(folder / "trajectory-0001.1.npz", process)
        process.send_signal(signal.SIGKILL)
    assert not (folder / "trajectory-0001.over").exists()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    went_on = run(tasks, folder, restart_every=100)
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    assert before.items() <= after.items()
    undisturbed = run(tasks, tmp_path / "undisturbed", restart_every=100)
    assert all(each.finished for each in went_on)
    assert went_on[1].steps.tolist() == list(range(0, 401, 10))
    assert all(map(same, went_on, undisturbed))
    again = run(tasks, folder, restart_every=100)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")} == after
    assert all(map(same, again, undisturbed))


def test_other_work_begins_anew(tmp_path):
    first = run([make_task(0)], tmp_path)
    assert all(map(same, run([make_task(0)], tmp_path, restart_every=20), first))
    other = run([make_task(0)], tmp_path, thermostat_damping=50.0)
    assert not same(other[0], first[0])
