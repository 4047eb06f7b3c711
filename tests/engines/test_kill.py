"""Killed anywhere, resumed, done: nothing lost, nothing twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import toy_jobs as toy
from run_toy import RUN

from ionloop.engines.local.journal import Journal
from ionloop.engines.local.lock import RunLockedError
from ionloop.engines.local.runner import LocalRunner
from ionloop.stores.connect import collection, open_store
from ionloop.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobflow import JobStore

pytestmark = [  # of jobflow's own runner, the reference
    pytest.mark.filterwarnings("ignore:Some jobs are not connected:UserWarning"),
    pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning"),
]
SCRIPT = Path(__file__).with_name("run_toy.py")
KILLS = 10


def start(folder: Path, flow: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), flow],
        env=os.environ | variables,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output_of(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=60)
    return text


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.01)
    raise AssertionError(f"nothing after {seconds} s")


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def runner_of(folder: Path, scratch: str = "scratch") -> LocalRunner:
    return LocalRunner(store_url=str(folder / "run.db"), scratch=folder / scratch, cores=2)


def journal_of(store: JobStore) -> Journal:
    return Journal(collection(store, "jobs"), RUN)


def check_everything(folder: Path) -> None:
    with open_store(folder / "run.db") as store:
        journal = journal_of(store)
        assert Counter(entry.state for entry in journal.entries()) == {"completed": 19}
        assert toy.outputs(store) == toy.reference_outputs(folder / "reference")
        ended = {
            entry.uuid: datetime.fromisoformat(journal.read(entry.job_id)["ended"]).timestamp()
            for entry in journal.entries({"index": 1})
        }
        blobs = collection(store, "data").count()
    executed = toy.notes(folder / "notes")
    assert {note["uuid"] for note in executed} <= set(ended)
    assert all(note["start"] <= ended[note["uuid"]] for note in executed), "ran after its end"
    assert blobs == sum(note["name"] == "add" for note in toy.notes(folder / "reference"))


def test_killed_at_random_moments(tmp_path: Path) -> None:
    rng = random.Random(20260731)
    for attempt in range(KILLS):
        before = len(toy.notes(tmp_path / "notes"))
        process = start(tmp_path, "everything")
        if attempt % 4 == 0:
            time.sleep(rng.uniform(0.1, 1.5))
        else:
            alive = lambda n=before, p=process: (  # noqa: E731
                len(toy.notes(tmp_path / "notes")) > n or p.poll() is not None
            )
            wait_until(alive)
            time.sleep(rng.uniform(0.0, 0.25))
        kill = os.killpg if attempt % 2 else os.kill
        if process.poll() is None:
            kill(process.pid, signal.SIGKILL)
        output_of(process)
    last = start(tmp_path, "everything")
    assert output_of(last).splitlines() == ["run toy: 19 completed"]
    check_everything(tmp_path)


class Killed(BaseException):
    """Stands for the end of the runner's process."""


def test_killed_around_every_write_of_the_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SqliteStore.update
    writes_left = 0
    after = False

    def update(self: SqliteStore, *args: Any, **kwargs: Any) -> None:
        nonlocal writes_left
        lock = self.collection == "runs"  # released in any case: this process lives on
        writes_left -= not lock
        if lock or writes_left > 0 or (writes_left == 0 and after):
            real(self, *args, **kwargs)
        if not lock and writes_left <= 0:
            raise Killed

    runner = runner_of(tmp_path)
    runner.submit(toy.everything(tmp_path / "notes", 0.0), RUN)
    kills = 0
    for attempt in range(2, 60):
        writes_left, after = 2 + attempt // 2, bool(attempt % 2)
        monkeypatch.setattr(SqliteStore, "update", update)
        try:
            runner.resume(RUN)
        except Killed:
            kills += 1
        else:
            break
        finally:
            monkeypatch.undo()
    assert kills > 8
    assert runner.resume(RUN).ok
    check_everything(tmp_path)


def test_no_process_outlives_the_runner(tmp_path: Path) -> None:
    slow_end = "if any('forkserver' in word for word in sys.orig_argv): "
    (tmp_path / "sitecustomize.py").write_text(
        f"import atexit, sys, time\n{slow_end}atexit.register(time.sleep, 30)\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = start(tmp_path, "everything", PYTHONPATH=path)
    (server,) = wait_until(
        lambda: [
            child
            for child in psutil.Process(process.pid).children()
            if "multiprocessing.forkserver" in " ".join(child.cmdline())
        ]
    )
    assert process.wait(timeout=60) == 0
    assert gone(server.pid)
    assert output_of(process)


def test_orphans_end_with_the_runner(tmp_path: Path) -> None:
    process = start(tmp_path, "sleeping")
    (note,) = wait_until(lambda: toy.notes(tmp_path / "notes"))
    process.kill()
    wait_until(lambda: gone(note["pid"]) and gone(note["program"]), seconds=10.0)
    process.communicate()


def test_programs_of_a_killed_worker_end_at_resume(tmp_path: Path) -> None:
    process = start(tmp_path, "sleeping")
    (note,) = wait_until(lambda: toy.notes(tmp_path / "notes"))
    os.kill(note["pid"], signal.SIGSTOP)  # the worker cannot see that the runner ends
    process.kill()
    time.sleep(0.3)
    assert not gone(note["program"])
    assert runner_of(tmp_path).resume(RUN).ok
    assert gone(note["pid"])
    assert gone(note["program"])
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stops_on_request_and_resumes(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "sleeping")
    (note,) = wait_until(lambda: toy.notes(tmp_path / "notes"))
    asked = time.monotonic()
    process.send_signal(number)
    text = output_of(process)
    assert time.monotonic() - asked < 4.0
    assert process.returncode == 3
    assert text.splitlines() == [
        "run toy: 1 waiting",
        "stopped on request; continue with: ionloop resume toy",
    ]
    assert gone(note["pid"])
    assert gone(note["program"])
    with open_store(tmp_path / "run.db") as store:
        assert collection(store, "runs").query_one({"run": RUN})["runner"] is None
    assert runner_of(tmp_path).resume(RUN).ok


def test_a_lost_terminal_stops_it_as_cleanly(tmp_path: Path) -> None:
    ours, its = os.openpty()
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tmp_path), "sleeping"],
        preexec_fn=lambda: os.login_tty(its),  # noqa: PLW1509 -- no threads here
    )
    os.close(its)
    (note,) = wait_until(lambda: toy.notes(tmp_path / "notes"))
    os.close(ours)
    assert process.wait(20) == 3
    assert gone(note["pid"])
    assert gone(note["program"])
    with open_store(tmp_path / "run.db") as store:
        assert collection(store, "runs").query_one({"run": RUN})["runner"] is None
        assert [entry.state for entry in journal_of(store).entries()] == ["waiting"]


def test_under_nohup_a_lost_terminal_changes_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        ["nohup", sys.executable, str(SCRIPT), str(tmp_path), "sleeping"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        (note,) = wait_until(lambda: toy.notes(tmp_path / "notes"))
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None
        assert not gone(note["program"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 3


@pytest.mark.parametrize("replaced", [False, True])
def test_a_store_that_is_moved_away_ends_the_run_with_a_sentence(
    tmp_path: Path, replaced: bool
) -> None:
    process = start(tmp_path, "everything")
    wait_until(lambda: toy.notes(tmp_path / "notes"))
    (tmp_path / "run.db").rename(tmp_path / "elsewhere.db")
    if replaced:
        with open_store(tmp_path / "another.db"):
            pass
        (tmp_path / "another.db").rename(tmp_path / "run.db")
    text = output_of(process)
    assert process.returncode == 1
    assert f"StoreError: Store {tmp_path}/run.db: the file was moved or deleted" in text
    assert (tmp_path / "run.db").exists() is replaced
    (tmp_path / "elsewhere.db").rename(tmp_path / "run.db")
    assert output_of(start(tmp_path, "everything")).splitlines() == ["run toy: 19 completed"]
    check_everything(tmp_path)


def test_a_second_request_ends_a_stubborn_job_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, "stubborn")
    (note,) = wait_until(lambda: toy.notes(tmp_path / "notes"))
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None
    assert not gone(note["pid"])
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert "ionloop resume toy" in output_of(process)
    assert time.monotonic() - asked < 3.0
    assert gone(note["pid"])


@pytest.mark.parametrize("scratch", ["scratch", "elsewhere"])
def test_two_runners_refuse_each_other(tmp_path: Path, scratch: str) -> None:
    process = start(tmp_path, "sleeping")
    wait_until(lambda: toy.notes(tmp_path / "notes"))
    with pytest.raises(RunLockedError, match=rf"run by process {process.pid} on \w+"):
        runner_of(tmp_path, scratch).resume(RUN)
    process.send_signal(signal.SIGINT)
    output_of(process)
