from __future__ import annotations

import fcntl
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from ionloop.engines.local.lock import RunLockedError, run_lock, wait_for_workers
from ionloop.schemas.process import STALE
from ionloop.stores.connect import collection, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maggma.core import Store


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "run.db") as store:
        yield collection(store, "runs")


def runner(**changes: Any) -> dict[str, Any]:
    created = psutil.Process().create_time()
    heartbeat = datetime.now(UTC).isoformat()
    me = {"host": socket.gethostname(), "pid": os.getpid(), "process_created": created}
    return {**me, "heartbeat": heartbeat, **changes}


def silent_for(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_the_rest_of_the_document_stays(runs: Store, tmp_path: Path) -> None:
    runs.update([{"run": "x", "name": "LGPS", "state": "running"}], key="run")
    with run_lock(runs, "x", tmp_path):
        held = runs.query_one({"run": "x"})
        assert held["runner"]["pid"] == os.getpid()
        assert held["name"] == "LGPS"
    assert runs.query_one({"run": "x"})["runner"] is None
    assert runs.count() == 1


def test_a_second_lock_on_this_host_is_refused(runs: Store, tmp_path: Path) -> None:
    with (
        run_lock(runs, "x", tmp_path / "x"),
        pytest.raises(RunLockedError, match=f"process {os.getpid()} on {socket.gethostname()}"),
        run_lock(runs, "x", tmp_path / "x"),
    ):
        pass
    with run_lock(runs, "x", tmp_path / "x"), run_lock(runs, "y", tmp_path / "y"):
        pass


@pytest.mark.parametrize("changes", [{}, {"host": "node7", "pid": 3}])
def test_a_living_runner_is_respected(runs: Store, tmp_path: Path, changes: dict[str, Any]) -> None:
    entry = runner(**changes, heartbeat=silent_for(STALE - 9))
    runs.update([{"run": "x", "runner": entry}], key="run")
    with pytest.raises(RunLockedError, match=entry["host"]), run_lock(runs, "x", tmp_path):
        pass
    assert runs.query_one({"run": "x"})["runner"] == entry


@pytest.mark.parametrize(
    "changes",
    [
        {"process_created": 1.0},  # its process id belongs to another process now
        {"pid": 2**22 + 1},
        {"host": "node7", "heartbeat": silent_for(STALE + 9)},
    ],
)
def test_a_dead_runner_is_replaced(runs: Store, tmp_path: Path, changes: dict[str, Any]) -> None:
    runs.update([{"run": "x", "runner": runner(**changes)}], key="run")
    with run_lock(runs, "x", tmp_path):
        assert runs.query_one({"run": "x"})["runner"]["pid"] == os.getpid()


def test_a_worker_that_will_not_end_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "workers.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        with pytest.raises(RunLockedError, match=r"workers\.lock after 0 s: find it"):
            wait_for_workers(lock, seconds=0.2)
    wait_for_workers(lock, seconds=0.2)


def test_an_error_of_the_body_comes_out_as_it_is(runs: Store, tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError, match="the pipe is full"), run_lock(runs, "x", tmp_path):
        raise BlockingIOError("the pipe is full")
    with run_lock(runs, "x", tmp_path):
        pass
