"""Folders in which an interrupted job finds its work again."""

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

LOGS = ("*.log", "screen.txt", "lcurve.out")  # what programs say, worth keeping of a failed job


@contextmanager
def unfinished() -> Iterator[Path]:
    """Provide a folder in which the current job finds its work again after its worker was lost.

    It is named by the job, under the folder that the environment variable ``IONLOOP_UNFINISHED``
    names, which every worker of the role must see. Without the variable it is the current folder,
    and a job that is run again begins anew. So it does beside another worker that was taken for
    lost and is not.

    A folder is left when its job has ended, because the result reaches the store only later: the
    local runner removes it then, and elsewhere a later job does a day after. What nobody came
    back to goes after 30 days.
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
        with suppress(OSError):  # the failure itself is what is to be told
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, target)


def _acquired(lock: IO[str]) -> bool:
    """Tell whether no other worker, taken for lost, is still at work on the same job."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _remove_old(root: Path) -> None:
    for folder in root.glob("*-*/"):
        mark = folder / FINISHED
        days = FINISHED_DAYS if mark.exists() else LEFT_DAYS
        if _age(mark if mark.exists() else folder) > days * DAY:
            shutil.rmtree(folder, ignore_errors=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # somebody else removed it
        return 0.0
