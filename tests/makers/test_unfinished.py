from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from jobflow import CURRENT_JOB

from ionloop.makers import base
from ionloop.makers.base import UNFINISHED, unfinished


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
    CURRENT_JOB.job = SimpleNamespace(uuid=uuid, index=2)


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
    age = base._age

    def remove_first(path: Path) -> float:
        shutil.rmtree(path.parent, ignore_errors=True)
        return age(path)

    monkeypatch.setattr(base, "_age", remove_first)
    begin("a-job")
    with unfinished() as folder:
        assert folder.exists()
    assert not old.exists()
