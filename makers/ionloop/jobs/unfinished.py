"""Folders in which an interrupted job continues its work."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from jobflow import CURRENT_JOB

UNFINISHED = "IONLOOP_UNFINISHED"  # environment variable: folder for work that outlives a worker

FINISHED = "finished"

DAY = 86_400.0

FINISHED_DAYS, LEFT_DAYS = 1, 30

LOGS = ("*.log", "screen.txt", "lcurve.out")  # output of programs, kept when a job fails


@contextmanager
def unfinished() -> Iterator[Path]:
    """Provide a folder in which the current job can continue after its worker was lost.

    Its name is that of the job. Its parent is the folder in the environment variable
    ``IONLOOP_UNFINISHED``, which every worker of the role must be able to reach. Without the
    variable it is the current folder, and a job that is run again starts from the beginning. So
    does a job whose first worker was considered lost but still works in the folder.

    The folder stays when the job is finished, because the result reaches the store only later.
    The local runner then removes it; in other engines a later job does, one day after. Folders of
    jobs that were never continued are removed after 30 days.
    """
    root, current = os.environ.get(UNFINISHED), CURRENT_JOB.job
    if not root or current is None:
        yield Path.cwd()
        return
    folder = Path(root).expanduser().absolute() / f"{current.uuid}-{current.index}"
    _remove_old(folder.parent)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FINISHED).unlink(missing_ok=True)
    os.utime(folder)
    with (folder / "lock").open("w") as lock:
        if not _acquired(lock):
            yield Path.cwd()
            return
        try:
            yield folder
        except BaseException:
            _leave_logs(folder)
            raise
    (folder / FINISHED).touch()


def _leave_logs(folder: Path) -> None:
    """Copy the logs of a failed job into the current folder, which its record names."""
    for log in sorted(path for name in LOGS for path in folder.rglob(name)):
        target = Path.cwd() / log.relative_to(folder)
        with suppress(OSError):  # the error to report is the one of the job
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, target)


def _acquired(lock: IO[str]) -> bool:
    """Lock the folder; return whether no other worker, considered lost, still works in it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _remove_old(root: Path) -> None:
    for folder in root.glob("*-*/"):
        finished = (folder / FINISHED).exists()
        days = FINISHED_DAYS if finished else LEFT_DAYS
        with suppress(FileNotFoundError):  # another job removed it
            changed = (folder / FINISHED if finished else folder).stat().st_mtime
            if time.time() - changed > days * DAY:
                shutil.rmtree(folder, ignore_errors=True)
