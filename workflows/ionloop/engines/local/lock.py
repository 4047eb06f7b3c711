"""One runner at a time for a run: a file lock on this host, an entry in the store for others."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ionloop.schemas.errors import IonloopError
from ionloop.schemas.process import HEARTBEAT, identity, lives

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from maggma.core import Store


class RunLockedError(IonloopError, RuntimeError):
    """Another runner works on the run; the message names its process and host."""


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
    beaten: float = 0.0

    def claim(self) -> None:
        """Write this process down as the runner.

        Raises
        ------
        RunLockedError
            If another runner that lives is written down.
        """
        runner = self._read().get("runner")
        if runner is not None and lives(runner):
            raise RunLockedError(_refusal(self.run, runner))
        self._write(identity())
        self.beaten = time.monotonic()

    def beat(self) -> None:
        """Renew the heartbeat, if it is due."""
        if time.monotonic() - self.beaten > HEARTBEAT:
            self._write(identity())
            self.beaten = time.monotonic()

    def release(self) -> None:
        """Cross this process out."""
        self._write(None)

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
    with _exclusive(folder / "lock") as locked:
        if not locked:
            raise RunLockedError(_refusal(run, lock._read().get("runner") or {}))
        lock.claim()
        try:
            yield lock
        finally:
            lock.release()


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
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with _exclusive(lock) as locked:
            if locked:
                return
        time.sleep(0.05)
    raise RunLockedError(
        f"a worker of an earlier runner still holds {lock} after {seconds:.0f} s: "
        f"find it with `fuser {lock}`, end it, and resume again"
    )


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[bool]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refusal(run: str, runner: dict[str, Any]) -> str:
    who = f"process {runner.get('pid', '?')} on {runner.get('host', 'this host')}"
    return f"run {run!r} is already being run by {who}: wait for it, or end that process first"
