"""Outside programs: the one way to start, watch, limit and end them, and to ask them something."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

from ionloop.programs.environment import ENVIRONMENT
from ionloop.programs.log import last_words, readable
from ionloop.schemas.errors import IonloopError

ENDING_SECONDS = 5.0
"""How long a program may take to end by itself once it was asked to, in s."""


PROBE_SECONDS = 600.0
"""How long a program may take to answer before a run, in s.

On a busy machine, importing takes minutes.
"""


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


@dataclass(frozen=True)
class Answer(Ended):
    """What a program said, and how it ended.

    Parameters
    ----------
    text
        Standard output and error, without control characters.
    """

    text: str

    @property
    def last_words(self) -> str:
        """The last line that says what went wrong, or the last one at all; "" without any."""
        return last_words(self.text)


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


@contextmanager
def running_program(
    command: Sequence[str],
    folder: Path | None,
    output: IO[bytes] | int,
    *,
    stdin: int = subprocess.DEVNULL,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program; when the context is left, end it with all that it started.

    It runs on one thread, unless the environment of this process says otherwise.

    Parameters
    ----------
    command
        Program and arguments.
    folder
        Working folder; None for the current one.
    output
        Where standard output and error go, as `subprocess.Popen` takes it.
    stdin
        Where standard input comes from.
    variables
        Environment variables for this program, over those of this process.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**ENVIRONMENT, **os.environ, **variables},
    ) as process:
        try:
            yield process
        finally:
            end(process)


def run_program(
    command: Sequence[str], folder: Path, log: Path, timeout: float | None = None
) -> Ended:
    """Run a program in a folder and write what it prints to a log.

    Parameters
    ----------
    command
        Program and arguments.
    folder
        Working folder.
    log
        File for standard output and error.
    timeout
        Time limit in s; none by default.

    Raises
    ------
    ProgramError
        If it was not through within the limit; it is ended then, with all that it started.
    """
    begin = time.perf_counter()
    with log.open("wb") as stream, running_program(command, folder, stream) as process:
        if not has_ended(process, timeout):
            raise ProgramError(
                f"`{shlex.join(command)}` was not through after {timeout:g} s and was ended"
            )
    return Ended(process.returncode, time.perf_counter() - begin)


def ask(
    command: Sequence[str], question: str = "", *, folder: Path | None = None, seconds: float
) -> Answer:
    """Start a program, ask it something and wait for its answer.

    Parameters
    ----------
    command
        Program and arguments.
    question
        Its standard input.
    folder
        Working folder; the current one without.
    seconds
        Time limit in s; the program is ended then, with all that it started.

    Raises
    ------
    ProgramError
        If it does not answer in time, or cannot be started at all.
    """
    begin = time.perf_counter()
    pipe = subprocess.PIPE
    try:
        with running_program(command, folder, pipe, stdin=pipe) as process:
            output, _ = process.communicate(question.encode(), seconds)
    except OSError as error:
        raise ProgramError(f"`{shlex.join(command)}` cannot be started: {error}") from None
    except subprocess.TimeoutExpired:
        raise ProgramError(
            f"`{shlex.join(command)}` did not answer within {seconds:g} s and was ended"
        ) from None
    text = readable(output.decode(errors="replace"))
    return Answer(process.returncode, time.perf_counter() - begin, text)


def has_ended(process: subprocess.Popen[bytes], seconds: float | None) -> bool:
    """Wait for a process; tell whether it has ended.

    Parameters
    ----------
    process
        What to wait for.
    seconds
        Longest time to wait in s; None for as long as it takes.
    """
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started: the ranks of `mpirun` have process groups of their own."""
    import psutil

    if process.poll() is not None:
        return
    children = psutil.Process(process.pid).children(recursive=True)
    for member in (*children, process):
        with suppress(psutil.NoSuchProcess):
            member.terminate()
    # Popen waits for its own process: if psutil did, the exit status would be lost.
    for child in psutil.wait_procs(children, timeout=ENDING_SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    if not has_ended(process, ENDING_SECONDS):
        process.kill()
