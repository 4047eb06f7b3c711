from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

from ionloop.codes import ase
from ionloop.codes.ase import AseSettings
from ionloop.codes.common.md import first_collapsed, valid_prefix
from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.codes.lammps.process import run_trajectories
from ionloop.codes.lammps.program import LammpsError, check_models, program_version, version_of_run
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.programs import process
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import DEEPMD, StoredFile

TYPE_MAP = ["Li", "S"]
VERSION = r"\d+ \w+ \d{4}.*"
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "DP_INTRA_OP_PARALLELISM_THREADS": "1",
    "DP_INTER_OP_PARALLELISM_THREADS": "1",
}


def crystal():
    from ase.build import bulk

    atoms = bulk("Li", "fcc", a=3.5, cubic=True).repeat(2)
    atoms.symbols[1::2] = "S"
    return atoms


def write_toy_data(folder):
    """Write 40 rattled and strained crystals with Morse labels as a deepmd/npy system."""
    from ase.calculators.morse import MorsePotential

    rng = np.random.default_rng(1)
    rows = {"coord": [], "box": [], "energy": [], "force": []}
    for _ in range(40):
        atoms = crystal()
        strain = np.eye(3) + rng.normal(0, 0.03, (3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.rattle(rng.choice([0.05, 0.15, 0.25]), rng=rng)
        atoms.calc = MorsePotential(epsilon=0.3, r0=2.47, rho0=4.0, rcut1=3.0, rcut2=4.0)
        rows["coord"].append(atoms.positions.ravel())
        rows["box"].append(atoms.cell.array.ravel())
        rows["energy"].append(atoms.get_potential_energy())
        rows["force"].append(atoms.get_forces().ravel())
    (folder / "set.000").mkdir(parents=True)
    for name, values in rows.items():
        np.save(folder / "set.000" / f"{name}.npy", np.array(values))
    types = [TYPE_MAP.index(symbol) for symbol in crystal().symbols]
    (folder / "type.raw").write_text("\n".join(map(str, types)))
    (folder / "type_map.raw").write_text("\n".join(TYPE_MAP))


def training_input(data, seed):
    descriptor = {
        "type": "se_e2_a",
        "rcut": 4.0,
        "rcut_smth": 1.0,
        "sel": [32, 32],
        "neuron": [4, 8],
        "axis_neuron": 4,
        "seed": seed,
    }
    return {
        "model": {
            "type_map": TYPE_MAP,
            "descriptor": descriptor,
            "fitting_net": {"neuron": [8, 8], "seed": seed},
        },
        "learning_rate": {"start_lr": 5e-3, "stop_lr": 1e-4, "decay_steps": 50},
        "loss": {"start_pref_f": 1000, "limit_pref_f": 10, "start_pref_e": 0.1},
        "training": {
            "training_data": {"systems": [str(data)], "batch_size": 1},
            "numb_steps": 200,
            "disp_freq": 200,  # a checkpoint is written only where the curve is
            "save_freq": 200,
            "seed": seed,
        },
    }


def train(folder, data, seed):
    folder.mkdir()
    (folder / "input.json").write_text(json.dumps(training_input(data, seed)))
    for arguments in (["train", "--skip-neighbor-stat", "input.json"], ["freeze", "-o", "m.pb"]):
        subprocess.run(
            ["dp", "--tf", *arguments],
            cwd=folder,
            env=os.environ | ONE_THREAD,
            capture_output=True,
            check=True,
        )
    return folder / "m.pb"


@pytest.fixture(scope="session")
def model_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_toy_data(folder / "data")
    return [train(folder / f"model-{seed}", folder / "data", seed) for seed in (1, 2)]


@pytest.fixture(scope="session")
def models(model_files):
    return [StoredFile.read(path) for path in model_files]


def start_frame(skew=True):
    atoms = crystal()
    atoms.rattle(0.05, seed=3)
    cell = atoms.cell.array
    if skew:  # other lattice vectors of the same crystal, turned, and atoms outside the cell
        from scipy.spatial.transform import Rotation

        turn = Rotation.from_euler("xyz", [30, 40, 50], degrees=True).as_matrix()
        cell = np.array([[1, 0, 0], [2, 1, 0], [-1, 3, 1]]) @ cell @ turn
        atoms.positions = atoms.positions @ turn + cell[0]
    return Frames(tuple(atoms.symbols), atoms.positions[None], cell[None]).snapped()


def make_task(index, **changes):
    values = {
        "index": index,
        "start": start_frame(),
        "temperature": 300.0,
        "pressure": 1.0,
        "seed": 11,
        "ensemble": "nvt",
        "steps": 100,
        "timestep": 1.0,
        "dump_every": 10,
    }
    return TrajectoryTask(**values | changes)


def overlapping_frame():
    start = start_frame(skew=False)
    positions = start.positions.copy()
    positions[0, 1] = positions[0, 0] + [0.02, 0, 0]
    return replace(start, positions=positions)


def rattled_frame():
    atoms = crystal()
    atoms.rattle(0.15, seed=3)
    return Frames(tuple(atoms.symbols), atoms.positions[None], atoms.cell.array[None]).snapped()


COLD = {"start": rattled_frame(), "temperature": 20.0, "steps": 60}


@pytest.fixture(scope="session")
def batch(models, tmp_path_factory):
    """Good and exploding trajectories in one batch: every one must come out as if alone."""
    tasks = [
        make_task(0),
        make_task(1, ensemble="npt-tri", start=start_frame(skew=False)),
        make_task(2, timestep=200.0),
        make_task(3, start=overlapping_frame()),
        make_task(4, ensemble="npt-aniso", steps=25),
        make_task(5),
        make_task(6, ensemble="npt-iso", pressure=1e5, start=start_frame(skew=False)),
        make_task(7, driver=1),
        make_task(8, **COLD),
        make_task(9, **COLD, heat=2000.0),
        make_task(10, **COLD, heat=2000.0, timestep=200.0),
    ]
    folder = tmp_path_factory.mktemp("batch") / "run"
    return run_trajectories(tasks, models, TYPE_MAP, LammpsSettings(), folder)


@pytest.mark.integration
def test_a_trajectory_is_one_group(batch):
    for trajectory in batch:
        if len(trajectory.frames):  # one ends before its first frame
            assert set(trajectory.frames.groups) == {trajectory.task.group}
    assert make_task(0).group != make_task(1, seed=12).group


@pytest.mark.integration
def test_nvt_keeps_start_and_cell(batch):
    nvt = batch[0]
    assert nvt.finished, nvt.stop_reason
    assert nvt.stop_reason == ""
    assert nvt.steps.tolist() == list(range(0, 101, 10))
    assert nvt.frames.ids[0] == nvt.task.start.ids[0]
    np.testing.assert_array_equal(nvt.frames.cells, np.repeat(nvt.task.start.cells, 11, axis=0))
    assert nvt.temperatures[0] == pytest.approx(300)
    assert np.all((nvt.temperatures > 50) & (nvt.temperatures < 900))
    assert nvt.seconds > 0
    jumps = np.abs(np.diff(nvt.frames.positions, axis=0)).max()
    assert 0 < jumps < 1.0
    drift = np.diff(masses(nvt.frames) @ nvt.frames.positions, axis=0)
    assert np.abs(drift).max() < 1e-5


def masses(frames):
    weights = np.where(np.array(frames.symbols) == "Li", 6.94, 32.06)
    return weights / weights.sum()


@pytest.mark.integration
def test_npt_moves_what_its_barostat_may(batch):
    tri, aniso, iso = batch[1], batch[4], batch[6]
    assert all(trajectory.finished for trajectory in (tri, aniso, iso))
    assert off_diagonal(tri) > 1e-4
    assert aniso.steps.tolist() == [0, 10, 20]
    lengths = np.linalg.norm(aniso.frames.cells, axis=2)
    assert np.ptp(lengths[-1] / lengths[0]) > 1e-4
    assert off_diagonal(iso) == 0
    assert np.ptp(np.diag(iso.frames.cells[-1])) < 2e-6
    assert iso.frames.volumes.mean() < 0.95 * tri.frames.volumes.mean()


def off_diagonal(trajectory):
    cell = trajectory.frames.cells[-1]
    return np.abs(cell - np.diag(np.diag(cell))).max()


@pytest.mark.integration
def test_exploding_trajectories_say_why_and_stop_nobody(batch):
    assert [trajectory.finished for trajectory in batch] == [1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0]
    absurd_step, overlap = batch[2], batch[3]
    assert absurd_step.steps.tolist() == [0]
    assert absurd_step.stop_reason == "the temperature exceeds 1500 K at step 1"
    assert len(overlap.frames) == len(overlap.max_devi_f) == 0
    assert overlap.stop_reason == "two atoms are closer than 0.5 Å at step 0"


@pytest.mark.integration
def test_equal_seeds_give_equal_trajectories(batch):
    first, again = batch[0], batch[5]
    assert again.frames == first.frames
    np.testing.assert_array_equal(again.max_devi_f, first.max_devi_f)
    np.testing.assert_array_equal(again.temperatures, first.temperatures)


@pytest.mark.integration
def test_deviations_are_those_of_the_frames(batch, model_files):
    from deepmd.infer import DeepPot
    from deepmd.infer.model_devi import calc_model_devi

    potentials = [DeepPot(str(path)) for path in model_files]
    turned, straight = batch[0], batch[1]
    for trajectory in (turned, straight):
        expected = calc_model_devi(*deepmd_arrays(trajectory.frames), potentials)
        assert trajectory.max_devi_f.max() > 0.01
        np.testing.assert_allclose(trajectory.max_devi_f, expected[:, 4], atol=1e-3)
    np.testing.assert_allclose(straight.max_devi_v, expected[:, 1], atol=1e-3)


def deepmd_arrays(frames):
    types = [TYPE_MAP.index(symbol) for symbol in frames.symbols]
    return frames.positions.reshape(len(frames), -1), frames.cells.reshape(len(frames), -1), types


@pytest.mark.integration
def test_the_driving_model_decides_the_path_and_not_the_deviation(batch):
    first, second = batch[0], batch[7]
    assert second.finished
    assert second.frames.ids[0] == first.frames.ids[0]
    assert second.frames.ids[-1] != first.frames.ids[-1]
    assert second.max_devi_f[0] == pytest.approx(first.max_devi_f[0], rel=1e-4)


@pytest.mark.integration
def test_a_cold_start_with_the_heat_of_its_perturbation_comes_to_its_end(batch):
    """At 20 K, five times which is soon exceeded; a step of 200 fs explodes all the same."""
    bare, known, exploded = batch[8:]
    assert bare.stop_reason.startswith("the temperature exceeds 100 K at step")
    assert known.finished, known.stop_reason
    assert known.temperatures.max() > 100
    assert not exploded.finished


@pytest.mark.integration
def test_ase_judges_and_moves_deepmd_models_as_lammps_does(batch, models, tmp_path):
    straight = {"steps": 40, "start": start_frame(skew=False)}
    tasks = [make_task(0, **straight), make_task(1, **straight, ensemble="npt-tri", driver=1)]
    for found in ase.run_trajectories(tasks, models, AseSettings(), tmp_path, DEEPMD):
        assert found.finished, found.stop_reason
        assert found.frames.ids[0] == batch[1].frames.ids[0]
        assert found.max_devi_f[0] == pytest.approx(batch[1].max_devi_f[0], rel=1e-3)
        assert found.max_devi_v[0] == pytest.approx(batch[1].max_devi_v[0], rel=1e-3)
        assert found.max_devi_f.max() < 5 * batch[1].max_devi_f.max()


@pytest.mark.integration
def test_stopping_and_dying_trajectories_keep_their_prefix(models, tmp_path):
    settings = LammpsSettings(stop_max_devi_f=0.2, stop_temperature_factor=1e12)
    quiet = Frames(tuple(crystal().symbols), crystal().positions[None], crystal().cell.array[None])
    tasks = [
        make_task(0, steps=10**6),
        make_task(1, timestep=1e5),
        make_task(2, start=quiet, temperature=3.0),
    ]
    stopped, died, good = run_trajectories(tasks, models, TYPE_MAP, settings, tmp_path)
    assert stopped.stop_reason == "max_devi_f exceeds 0.2 eV/Å at step 10"
    assert stopped.steps.tolist() == [0]
    assert "halt condition for fix-id stop" in (tmp_path / "trajectory-0000.log").read_text()
    assert died.steps.tolist() == [0]
    assert re.fullmatch(r"LAMMPS reports: [^()]+", died.stop_reason)
    assert good.finished
    assert len(good.frames) == 11
    assert re.fullmatch(VERSION, version_of_run(tmp_path))


LONG = {"steps": 400, "dump_every": 10}
IN_LEGS = LammpsSettings(restart_every=100)
KILLED = """
import json, sys
from pathlib import Path
from ionloop.codes import ase
from ionloop.codes.ase import AseSettings
from ionloop.codes.common.md import first_collapsed, valid_prefix
from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.codes.lammps import LammpsSettings, run_trajectories
from ionloop.schemas.potential import DEEPMD, StoredFile
tasks, models, settings = json.loads(Path(sys.argv[1]).read_text())
run_trajectories(
    [TrajectoryTask.model_validate_json(task) for task in tasks],
    [StoredFile.read(Path(model)) for model in models],
    ["Li", "S"],
    LammpsSettings.model_validate_json(settings),
    Path(sys.argv[2]),
)
"""


def start_process(tasks, model_files, settings, folder):
    """Start trajectories in a process of their own, which leads a process group."""
    tasks = [task.model_dump_json() for task in tasks]
    data = folder.with_suffix(".json")
    data.write_text(json.dumps([tasks, list(map(str, model_files)), settings.model_dump_json()]))
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(data), str(folder)], start_new_session=True
    )


def steps_by_leg(folder):
    """Return the MD steps that LAMMPS counted, by leg, with the time of each log's last line."""
    return {
        log.stem: (int(found[1]), log.stat().st_mtime)
        for log in folder.glob("trajectory-*.log")
        if (found := re.search(r"Loop time of .* for (\d+) steps", log.read_text()))
    }


@pytest.mark.integration
def test_a_killed_trajectory_goes_on_from_its_restart_file(model_files, models, tmp_path):
    """A short trajectory that is over, a long one that is killed, one that has not begun."""
    barostat = {"ensemble": "npt-tri", "start": start_frame(skew=False)}
    tasks = [make_task(0), make_task(1, **LONG, **barostat), make_task(2, seed=5)]
    folder = tmp_path / "killed"
    with start_process(tasks, model_files, IN_LEGS, folder) as process:
        wait_for(folder / "trajectory-0001.2.restart")
        os.killpg(process.pid, signal.SIGKILL)
    before = steps_by_leg(folder)
    done = {"trajectory-0000": 100, "trajectory-0001": 100, "trajectory-0001.1": 100}
    assert done.items() <= {leg: steps for leg, (steps, _) in before.items()}.items()

    went_on = run_trajectories(tasks, models, TYPE_MAP, IN_LEGS, folder)
    after = steps_by_leg(folder)
    assert sum(steps for steps, _ in after.values()) == 600
    anew = [leg for leg in after if leg not in done or after[leg] != before[leg]]
    assert sum(after[leg][0] for leg in anew) == 300  # of 600
    undisturbed = run_trajectories(tasks, models, TYPE_MAP, IN_LEGS, tmp_path / "undisturbed")
    assert all(trajectory.finished for trajectory in went_on)
    assert went_on[1].steps.tolist() == list(range(0, 401, 10))
    assert all(map(same, went_on, undisturbed))

    again = run_trajectories(tasks, models, TYPE_MAP, IN_LEGS, folder)
    assert steps_by_leg(folder) == after
    assert all(map(same, again, undisturbed))


def same(one, other):
    columns = ("steps", "max_devi_f", "max_devi_v", "temperatures")
    equal = [np.array_equal(getattr(one, name), getattr(other, name)) for name in columns]
    return one.frames == other.frames and all(equal)


def wait_for(path, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear in {seconds} s"
        time.sleep(0.05)


@pytest.mark.integration
def test_an_exploded_trajectory_has_no_further_legs(models, tmp_path):
    settings = LammpsSettings(restart_every=20, stop_temperature_factor=1e12)
    tasks = [make_task(0, timestep=200.0), make_task(1, timestep=1e5, steps=60), make_task(2)]
    halting = settings.model_copy(update={"stop_temperature_factor": 5.0})
    (halted,) = run_trajectories(tasks[:1], models, TYPE_MAP, halting, tmp_path / "halted")
    assert halted.stop_reason == "the temperature exceeds 1500 K at step 1"
    died, good = run_trajectories(tasks[1:], models, TYPE_MAP, settings, tmp_path / "died")
    assert re.fullmatch(r"LAMMPS reports: [^()]+", died.stop_reason)
    assert good.finished
    assert not list(tmp_path.rglob("trajectory-000[01].*.log"))
    # What LAMMPS died of is remembered, and not tried again.
    again, _ = run_trajectories(tasks[1:], models, TYPE_MAP, settings, tmp_path / "died")
    assert again.stop_reason == died.stop_reason


@pytest.mark.integration
def test_processes_side_by_side_share_the_trajectories(models, tmp_path):
    tasks = [make_task(index, seed=index + 1, steps=50) for index in (4, 0, 9)]
    alone = run_trajectories(tasks, models, TYPE_MAP, LammpsSettings(), tmp_path / "alone")
    folder = tmp_path / "together"
    together = run_trajectories(tasks, models, TYPE_MAP, LammpsSettings(), folder, processes=2)
    assert [trajectory.task.index for trajectory in together] == [4, 0, 9]
    assert all(map(same, together, alone))
    shares = [sorted(f.stem for f in (folder / f"process-{i}").glob("*.dump")) for i in (0, 1)]
    assert shares == [["trajectory-0004", "trajectory-0009"], ["trajectory-0000"]]
    assert re.fullmatch(VERSION, version_of_run(folder))


@pytest.mark.integration
def test_lammps_is_asked_whether_it_loads_the_models():
    from importlib.metadata import version

    from deepmd.env import GLOBAL_CONFIG

    check_models("lmp", ".pb")
    if version("torch").partition("+")[0] == GLOBAL_CONFIG["pt_version"]:
        check_models("lmp", ".pth")
        return
    cure = rf"does not load PyTorch models \(\.pth\).*install torch=={GLOBAL_CONFIG['pt_version']}"
    with pytest.raises(LammpsError, match=cure):
        check_models("lmp", ".pth")


def test_a_plugin_without_a_backend_is_told(tmp_path):
    lines = ["echo 'ERROR: Unable to load TensorFlow backend plugin (x.so). Tried:'", "echo '  no'"]
    with pytest.raises(LammpsError, match=r"does not load TensorFlow models \(\.pb\): install"):
        check_models(str(write_program(tmp_path, *lines)), ".pb")


def test_other_models_or_settings_begin_anew(tmp_path):
    program = write_program(tmp_path, "touch trajectory-0000.temperature", "echo >> ../starts")
    for factor in (5.0, 5.0, 6.0):
        run_fake([make_task(0)], program, tmp_path, stop_temperature_factor=factor)
    assert (tmp_path / "starts").read_text() == "\n\n"


@pytest.mark.integration
def test_program_version():
    assert re.fullmatch(VERSION, program_version("lmp"))


@pytest.mark.parametrize("command", ["no-such-lmp", "no-such-srun -n 1 lmp"])
def test_absent_program_is_named_with_its_key_and_cure(command, tmp_path):
    cure = r"explore\.command: '.*' was not found on PATH; .*pip install 'ionloop\[deepmd\]'"
    with pytest.raises(LammpsError, match=cure):
        program_version(command)
    with pytest.raises(LammpsError, match=cure):
        run_fake([make_task(0)], command, tmp_path)


def run_fake(tasks, command, folder, **settings):
    models = [StoredFile(f"{i}.pb", b"") for i in range(2)]
    return run_trajectories(
        tasks, models, TYPE_MAP, LammpsSettings(command=str(command), **settings), folder / "run"
    )


def write_program(folder, *lines):
    program = folder / "lmp"
    program.write_text("\n".join(["#!/bin/sh", *lines]))
    program.chmod(0o755)
    return program


def test_program_without_deepmd_is_told(tmp_path):
    program = write_program(tmp_path, "echo 'LAMMPS (1 Jan 2020)'", "echo lj/cut eam")
    with pytest.raises(LammpsError, match="has no pair_style deepmd"):
        program_version(str(program))


def test_folder_without_a_run_has_no_version(tmp_path):
    with pytest.raises(LammpsError, match="has one run there"):
        version_of_run(tmp_path)


def test_program_that_is_not_lammps_is_told():
    with pytest.raises(LammpsError, match="'true' did not start LAMMPS"):
        program_version("true")


def test_a_lammps_that_dies_names_the_signal(tmp_path):
    program = write_program(tmp_path, "echo 'no library'", "kill -11 $$")
    with pytest.raises(LammpsError, match=r"SIGSEGV.*and said: no library"):
        program_version(str(program))


def test_refused_input_is_an_error_with_what_lammps_said(tmp_path):
    program = write_program(tmp_path, "echo 'ERROR: Unrecognized pair style' > start.log", "exit 1")
    with pytest.raises(LammpsError, match=r"did not begin a trajectory.*Unrecognized pair style"):
        run_fake([make_task(0)], program, tmp_path)


def test_hanging_program_that_ends_with_success_is_a_failure_all_the_same(tmp_path):
    program = write_program(tmp_path, "trap 'exit 0' TERM", "sleep 60 &", "wait")
    with pytest.raises(LammpsError, match=r"made no progress for 0\.1 s"):
        run_fake([make_task(0)], program, tmp_path, stall_timeout=0.1)


def test_hanging_program_is_ended_with_its_children(tmp_path):
    program = write_program(tmp_path, "sleep 60 &", f"echo $! > {tmp_path}/pid", "wait")
    with pytest.raises(LammpsError, match=r"made no progress for 0\.1 s"):
        run_fake([make_task(0)], program, tmp_path, stall_timeout=0.1)
    child = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"


def test_program_that_dies_of_a_trajectory_is_started_again(tmp_path):
    """A stand-in that runs one section of its script, then is killed."""
    name = "$(sed -n 's/^log \\(.*\\).log/\\1/p' in.lammps | head -1)"
    program = write_program(
        tmp_path, f"name={name}", "touch $name.temperature", "touch $name.log", "kill -9 $$"
    )
    trajectories = run_fake([make_task(0), make_task(1)], program, tmp_path)
    assert [len(trajectory.frames) for trajectory in trajectories] == [0, 0]
    assert {trajectory.stop_reason for trajectory in trajectories} == {
        "LAMMPS was killed by SIGKILL (Killed; often the memory was not enough)"
    }


@pytest.mark.parametrize("ending", ["kill -15 $$", "exit 143"])
def test_a_trajectory_that_a_queue_ends_is_not_over(ending, tmp_path):
    program = write_program(tmp_path, "touch trajectory-0000.{temperature,log}", ending)
    with pytest.raises(LammpsError, match="ended from outside"):
        run_fake([make_task(0)], program, tmp_path)
    assert not (tmp_path / "run" / "trajectory-0000.over").exists()


@pytest.mark.parametrize(
    ("tasks", "n_models", "complaint"),
    [
        ([make_task(0)], 1, "two models or more, got 1"),
        ([make_task(0), make_task(0)], 2, "the same index"),
        ([make_task(3, start=start_frame()[[0, 0]])], 2, "trajectory 3 starts from 2 frames"),
    ],
)
def test_tasks_that_make_no_sense(tasks, n_models, complaint, tmp_path):
    models = [StoredFile("m.pb", b"")] * n_models
    with pytest.raises(ValueError, match=complaint):
        run_trajectories(tasks, models, TYPE_MAP, LammpsSettings(), tmp_path)


def test_program_that_does_not_listen_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "ENDING_SECONDS", 0.2)
    program = write_program(tmp_path, "trap '' TERM", "while true; do sleep 0.05; done")
    with pytest.raises(LammpsError, match=r"made no progress for 0\.1 s"):
        run_fake([make_task(0)], program, tmp_path, stall_timeout=0.1)


@pytest.mark.parametrize(
    ("cell", "positions", "collapsed"),
    [
        (np.eye(3) * 4, [[0, 0, 0], [2, 0, 0]], False),
        (np.eye(3) * 4, [[0, 0, 0], [0.49, 0, 0]], True),
        (np.eye(3) * 4, [[0, 0, 0], [3.6, 4, -8]], True),
        (np.diag([0.4, 9, 9]), [[0, 0, 0]], True),
        (np.eye(3) * 1e-4, [[0, 0, 0]], True),
        (np.zeros((3, 3)), [[0, 0, 0]], True),
    ],
)
def test_collapsed_atoms_are_seen_across_the_boundary(cell, positions, collapsed):
    symbols = ("Li",) * len(positions)
    spread = np.arange(len(positions))[:, None] * np.full(3, 2.0)
    wide = np.eye(3) * 9
    frames = Frames(symbols, np.array([spread, positions, spread]), np.array([wide, cell, wide]))
    assert first_collapsed(frames, 0.5) == (1 if collapsed else 3)


def test_first_bad_frame_and_its_reason():
    frames = Frames(("Li",), np.zeros((4, 1, 3)), np.tile(np.eye(3) * 5, (4, 1, 1)))
    good, target, task = np.array([0.1, 0.2, 0.3, 0.4]), np.full(4, 300.0), make_task(0)

    def judge(max_devi_f=good, max_devi_v=good, temperatures=target, frames=frames, task=task):
        return valid_prefix(frames, max_devi_f, max_devi_v, temperatures, task, LammpsSettings())

    assert judge() == (4, "")
    assert judge(max_devi_f=good * 40) == (2, "max_devi_f exceeds 10 eV/Å at step 20")
    bad = np.array([1, 1, 1, np.nan])
    assert judge(max_devi_v=bad) == (3, "the model deviation is not finite at step 30")
    assert judge(max_devi_f=bad) == (3, "the model deviation is not finite at step 30")
    hot = np.array([300, 1501, np.nan, 300])
    assert judge(temperatures=hot) == (1, "the temperature exceeds 1500 K at step 10")
    heated = make_task(0, temperature=50.0, heat=600.0)
    cooling = np.array([650, 740, 500, 1600])
    assert judge(temperatures=cooling, task=heated) == (
        3,
        "the temperature exceeds 250 K at step 30",
    )
    lost = replace(frames, positions=np.array([0, 0, np.inf, 0])[:, None, None] + np.zeros(3))
    assert judge(frames=lost) == (2, "positions or cell are not finite at step 20")
    assert judge(
        frames=frames[:0], max_devi_f=good[:0], max_devi_v=good[:0], temperatures=good[:0]
    ) == (0, "")
