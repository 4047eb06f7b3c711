"""One runner at a time for a run: a file lock here, and an entry in the store for other hosts."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from maggma.core import Store

from ionloop.schemas.errors import IonloopError
from ionloop.schemas.process import HEARTBEAT, identity, lives

WORKERS_LOCK = "workers.lock"
"""Lock file in the scratch folder of a run that all its workers hold."""


class RunLockedError(IonloopError, RuntimeError):
    """Another runner works on the run; the message names its process and host."""


def living_runner(runs: Store, run: str) -> dict[str, Any] | None:
    """Return the record of the process that runs a run; None if there is none that is alive.

    Parameters
    ----------
    runs
        Collection of runs.
    run
        Id of the run.
    """
    runner: dict[str, Any] | None = (runs.query_one({"run": run}) or {}).get("runner")
    return runner if runner and lives(runner) else None


@dataclass
class RunLock:
    """The right to run a run.

    Attributes
    ----------
    runs
        Collection of runs; its key is ``run``. Only the field ``runner`` is touched.
    run
        Id of the run.
    beaten
        Time of the last heartbeat, ``time.monotonic`` seconds.
    """

    runs: Store
    run: str
    beaten: float = -math.inf

    def claim(self) -> None:
        """Enter this process as the runner.

        Raises
        ------
        RunLockedError
            If another runner that is alive is entered.
        """
        if living_runner(self.runs, self.run):
            raise self.refusal()
        self.beat()

    def beat(self) -> None:
        """Renew the heartbeat, if it is due."""
        if time.monotonic() - self.beaten > HEARTBEAT:
            self._write(identity())
            self.beaten = time.monotonic()

    def release(self) -> None:
        """Remove this process from the entry in the store."""
        self._write(None)

    def refusal(self) -> RunLockedError:
        """Return the error that names the runner in the store."""
        runner = self._read().get("runner") or {}
        pid, host = runner.get("pid", "?"), runner.get("host", "this host")
        return RunLockedError(
            f"run {self.run!r} is already being run by process {pid} on {host}: "
            "wait for it, or end that process first"
        )

    def _read(self) -> dict[str, Any]:
        return self.runs.query_one({"run": self.run}) or {"run": self.run}

    def _write(self, runner: dict[str, Any] | None) -> None:
        self.runs.update(self._read() | {"runner": runner}, key="run")


@contextlib.contextmanager
def run_lock(runs: Store, run: str, folder: Path) -> Iterator[RunLock]:
    """Be the only runner of a run.

    Parameters
    ----------
    runs
        Collection of runs.
    run
        Id of the run.
    folder
        Scratch folder of the run; the lock file lies in it.

    Raises
    ------
    RunLockedError
        If another runner works on the run.
    """
    lock = RunLock(runs, run)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(folder / "lock", timeout=0))
        except Timeout:
            raise lock.refusal() from None
        lock.claim()
        held.callback(lock.release)
        yield lock


def wait_for_workers(lock: Path, seconds: float = 60.0) -> None:
    """Wait until no worker of an earlier runner is left.

    Parameters
    ----------
    lock
        Lock file that all workers of the run share.
    seconds
        Time to wait, s.

    Raises
    ------
    RunLockedError
        If there still is one after that time.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Workers share the lock by flock, which this exclusive lock waits for.
        with FileLock(lock, timeout=seconds):
            return
    except Timeout:
        raise RunLockedError(
            f"a worker of an earlier runner still holds {lock} after {seconds:.0f} s: "
            f"find it with `fuser {lock}`, end it, and resume again"
        ) from None
