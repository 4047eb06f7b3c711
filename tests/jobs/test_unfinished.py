from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from jobflow import CURRENT_JOB

from ionloop.engines.local.runner import LocalRunner
from ionloop.jobs import unfinished as base
from ionloop.jobs.unfinished import UNFINISHED, unfinished


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Name a folder for unfinished work, as a job has it."""
    monkeypatch.setenv(UNFINISHED, str(tmp_path / "unfinished"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    begin("a-job")
    yield tmp_path / "unfinished"
    CURRENT_JOB.reset()


def begin(uuid: str) -> None:
    CURRENT_JOB.job = SimpleNamespace(uuid=uuid, index=2)  # type: ignore[assignment]


def grow_old(path: Path, days: float) -> None:
    then = time.time() - days * base.DAY
    os.utime(path, (then, then))


def test_a_job_that_is_run_again_finds_its_work(root: Path) -> None:
    with pytest.raises(KeyboardInterrupt), unfinished() as folder:
        (folder / "half").touch()
        raise KeyboardInterrupt
    assert folder == root / "a-job-2"
    assert not (folder / base.FINISHED).exists()
    with unfinished() as again:
        assert (again / "half").exists()
    # The result is not in the store yet, and a job that is lost now must not begin anew.
    assert (again / "half").exists()
    assert (again / base.FINISHED).exists()


def test_the_folder_of_a_failed_job_holds_its_logs(root: Path, monkeypatch) -> None:
    scratch = root.parent / "scratch"
    scratch.mkdir()
    monkeypatch.chdir(scratch)
    with pytest.raises(RuntimeError), unfinished() as folder:
        (folder / "model-1").mkdir()
        (folder / "model-1" / "train.log").write_text("no set.000")
        (folder / "model.ckpt").touch()
        raise RuntimeError("the training failed")
    assert (scratch / "model-1" / "train.log").read_text() == "no set.000"
    assert not (scratch / "model.ckpt").exists()


def test_other_jobs_work_elsewhere(root: Path) -> None:
    with unfinished() as mine:
        pass
    begin("another-job")
    with unfinished() as other:
        assert other != mine
        assert other.parent == root


def test_without_the_variable_the_work_is_in_the_current_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(UNFINISHED)
    with unfinished() as folder:
        assert folder == Path.cwd()
    assert not list(folder.iterdir())
    assert not root.exists()


def test_outside_a_job_the_work_is_in_the_current_folder(root: Path) -> None:
    CURRENT_JOB.reset()
    with unfinished() as folder:
        assert folder == Path.cwd()


@pytest.mark.parametrize(
    ("finished", "days", "stays"),
    [(True, 0.9, True), (True, 1.1, False), (False, 29, True), (False, 31, False)],
)
def test_old_folders_go(root: Path, finished: bool, days: float, stays: bool) -> None:
    begin("old-job")
    with unfinished() as old:
        pass
    if finished:
        grow_old(old / base.FINISHED, days)
    else:
        (old / base.FINISHED).unlink()
        grow_old(old, days)
    begin("a-job")
    with unfinished():
        assert old.exists() is stays


def test_a_job_that_goes_on_is_not_old(root: Path) -> None:
    with unfinished() as folder:
        pass
    grow_old(folder / base.FINISHED, 0.5)
    with unfinished() as folder:
        assert not (folder / base.FINISHED).exists()


def test_a_worker_that_lives_on_is_not_disturbed(root: Path) -> None:
    with unfinished() as folder:
        pass
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with unfinished() as refuge:
            assert refuge == Path.cwd()
    with unfinished() as again:
        assert again == folder


def test_what_somebody_else_removed_meanwhile(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin("old-job")
    with unfinished() as old:
        pass
    exists = Path.exists

    def removed_after(path: Path) -> bool:
        found = exists(path)
        if path.name == base.FINISHED:
            shutil.rmtree(path.parent, ignore_errors=True)
        return found

    monkeypatch.setattr(Path, "exists", removed_after)
    begin("a-job")
    with unfinished() as folder:
        assert folder.exists()
    assert not old.exists()


TRAINING = """
import sys
from pathlib import Path
from ionloop.codes.deepmd import DeepmdSettings
from ionloop.formats.reading import load_structures
from ionloop.geometry.perturb import perturb
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.engines.local.runner import LocalRunner
from ionloop.schemas.label import Labels, LevelOfTheory
(start,) = load_structures([Path(sys.argv[1])])
frames = perturb(start, 4, displacement=0.1, strain=0.0, seed=1)
zero = 0 * frames.positions
level = LevelOfTheory(code="toy", settings={})
labelled = type(frames)(frames.symbols, frames.positions, frames.cells, zero[:, 0, 0], zero)
net = {"rcut": 3.0, "rcut_smth": 1.0, "neurons": [2, 4], "axis_neurons": 2, "fitting": [8]}
maker = DeepmdTrainMaker(
    settings=DeepmdSettings(**net, steps=3000, disp_every=200),
    type_map=["Au", "Cu"],
    n_models=1,
    min_models=1,
)
flow = maker.make([Labels(level=level, n_requested=4, frames=[labelled])])
LocalRunner(store_url="run.db", scratch=Path("scratch"), cores=1, keep="all").run(flow, "r")
"""


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("dp") is None, reason="DeePMD-kit is not installed")
def test_a_training_of_a_killed_run_goes_on(tmp_path: Path) -> None:
    structure = Path(__file__).parents[1] / "toy" / "AuCu.vasp"
    command = [sys.executable, "-c", TRAINING, str(structure)]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True) as process:
        (checkpoint,) = wait_for(process, tmp_path, "scratch/r/unfinished/*/model.ckpt.meta")
        os.killpg(process.pid, signal.SIGKILL)
    first = steps_told(checkpoint.parent / "train.log")
    runner = LocalRunner(
        store_url=str(tmp_path / "run.db"), scratch=tmp_path / "scratch", keep="all"
    )
    assert runner.resume("r").ok
    (log,) = (tmp_path / "scratch/r").glob("train_*/unfinished/train.log")
    assert "restart from model" in log.read_text()
    second = steps_told(log)
    assert (first[0], second[-1]) == (0, 3000)
    assert second[0] >= 1000  # where the first checkpoint is


def wait_for(process: subprocess.Popen[bytes], folder: Path, pattern: str) -> list[Path]:
    while not (found := list(folder.glob(pattern))):
        assert process.poll() is None, f"the run ended before there was {pattern}"
        time.sleep(0.05)
    return found


def steps_told(log: Path) -> list[int]:
    """Return the steps that a log of `dp train` tells of."""
    return [int(step) for step in re.findall(r"[Bb]atch\s+(\d+):", log.read_text())]
