"""Outside programs: run one in a folder within a time limit, and end all that it started."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ionloop.programs.environment import ENVIRONMENT
from ionloop.schemas.errors import IonloopError

ENDING_SECONDS = 5.0
"""How long a program may take to end by itself once it was asked to, in s."""


class ProgramError(IonloopError, RuntimeError):
    """An outside program gave no answer."""


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Parameters
    ----------
    status
        Exit status; negative: minus the signal that killed it.
    seconds
        Wall time in s.
    """

    status: int
    seconds: float

    @property
    def words(self) -> str:
        """The status in words."""
        return status_words(self.status)


def status_words(status: int) -> str:
    """Say how a program ended, a signal by its name.

    Parameters
    ----------
    status
        Exit status; negative: minus the signal that killed it. A shell or a wrapper hands a
        signal on as 128 plus its number.
    """
    number = -status if status < 0 else status - 128
    if number not in set(signal.Signals):
        return f"ended with exit status {status}"
    hint = "; often the memory was not enough" if number == signal.SIGKILL else ""
    told = f"{signal.Signals(number).name} ({signal.strsignal(number)}{hint})"
    return f"was killed by {told}" if status < 0 else f"ended with exit status {status}, {told}"


def run_program(command: Sequence[str], folder: Path, log: Path, timeout: float) -> Ended:
    """Run a program in a folder, what it prints going to a log.

    Parameters
    ----------
    command
        Program and arguments.
    folder
        Working folder.
    log
        File for standard output and error.
    timeout
        Time limit in s.

    Raises
    ------
    ProgramError
        If it was not through within the limit; it is ended then, with all that it started.
    """
    begin = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT | os.environ,
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProgramError(
                f"`{shlex.join(command)}` was not through after {timeout:g} s and was ended"
            ) from None
        finally:
            end(process)
    return Ended(process.returncode, time.perf_counter() - begin)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started: the ranks of `mpirun` have process groups of their own."""
    import psutil

    if process.poll() is not None:
        return
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.terminate()
    for survivor in psutil.wait_procs(family[:-1], timeout=ENDING_SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            survivor.kill()
    process.kill()
    process.wait()
