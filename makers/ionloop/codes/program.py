"""Outside programs: run one in a folder within a time limit, and end all that it started."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator

from ionloop.codes.errors import ProgramNotFoundError
from ionloop.schemas.errors import IonloopError

CORES = "{cores}"
"""What stands for the number of MPI ranks in a command."""

ENDING_SECONDS = 5.0
"""How long a program may take to end by itself once it was asked to, in s."""

PROBE_SECONDS = 300.0
"""How long a program may take to say its version, in s; on a busy machine it imports slowly."""

LONGEST_LINE = 300
"""Characters of a program's last words that are repeated."""

_TELLING = re.compile(
    r"error|exception|fail|abort|fatal|killed|refused|denied|cannot|can't|not found|no such|"
    r"no space|out of memory|segmentation|nan\b",
    re.IGNORECASE,
)
_IDLE = re.compile(
    r"^\W*$|^Traceback|^\s+File \"|^implib-gen:|^DeePMD-kit: (Cannot find|Error message: libcudart)"
    r"|^MPI_ABORT was invoked on rank|^Last command:|^application called MPI_Abort"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]+")

BASIC_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "DP_INTRA_OP_PARALLELISM_THREADS": "1",
        "DP_INTER_OP_PARALLELISM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
)
"""One thread per process, since processes run side by side, and few words from TensorFlow."""

WITHOUT_KERAS: Mapping[str, str] = MappingProxyType({"TF_USE_LEGACY_KERAS": "1"})
"""TensorFlow then leaves out Keras, which DeePMD-kit does not use: 40% of its start.

For programs and imports of DeePMD-kit alone: other code of the same process may want Keras.
"""

DEEPMD_ENVIRONMENT: Mapping[str, str] = MappingProxyType({**BASIC_ENVIRONMENT, **WITHOUT_KERAS})

# Open MPI would bind two jobs side by side to the same first cores, and its ranks would wait for
# each other at full load on cores that others need.
ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        **DEEPMD_ENVIRONMENT,
        "OMPI_MCA_hwloc_base_binding_policy": "none",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
        "OMPI_MCA_mpi_yield_when_idle": "1",
    }
)


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


def words_of(command: str) -> list[str]:
    """Split a command as a shell does.

    Raises
    ------
    ValueError
        If it is empty or a quotation mark is not closed.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{command!r} cannot be split into words: {error}".lower()) from None
    if not words:
        raise ValueError("a command is needed, such as the name of the program")
    return words


def _checked(command: str) -> str:
    words_of(command)
    return command


Command = Annotated[str, AfterValidator(_checked)]
"""A command with its arguments, as a shell splits it: not empty, quotation marks closed."""


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Give what is started meanwhile some environment variables.

    Parameters
    ----------
    variables
        Name to value.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def arguments(command: str, cores: int, cure: str) -> list[str]:
    """Split a command, with the number of ranks put in.

    Parameters
    ----------
    command
        Such as ``mpirun -np {cores} gpaw python``.
    cores
        MPI ranks.
    cure
        What to do if the program is not there, as the end of a sentence.

    Raises
    ------
    ProgramNotFoundError
        If its first word is not on PATH.
    """
    words = [word.replace(CORES, str(cores)) for word in shlex.split(command)]
    if not words or shutil.which(words[0]) is None:
        raise ProgramNotFoundError(words[0] if words else command, cure)
    return words


@dataclass(frozen=True)
class Answer(Ended):
    """What a program said, and how it ended.

    Parameters
    ----------
    text
        Standard output and error, without what is not text.
    """

    text: str

    @property
    def last_words(self) -> str:
        """The last line that tells something, with what it is; nothing if it said nothing."""
        return last_words(self.text)


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
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT | os.environ,
        )
    except OSError as error:
        raise ProgramError(f"`{shlex.join(command)}` cannot be started: {error}") from None
    with process:
        output = _output_within(seconds, process, command, question)
    text = readable(output.decode(errors="replace"))
    return Answer(process.returncode, time.perf_counter() - begin, text)


def _output_within(
    seconds: float, process: subprocess.Popen[bytes], command: Sequence[str], question: str
) -> bytes:
    try:
        return process.communicate(question.encode(), seconds)[0]
    except subprocess.TimeoutExpired:
        raise ProgramError(
            f"`{shlex.join(command)}` did not answer within {seconds:g} s and was ended"
        ) from None
    finally:
        end(process)


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


def readable(text: str) -> str:
    """Return text without control characters, so that a terminal shows it as it is."""
    return _CONTROL.sub("", text.replace("\r", "\n"))


def log_text(log: Path) -> str:
    """Return the readable text of a log, nothing if it is not there."""
    return readable(log.read_text(errors="replace")) if log.exists() else ""


def last_words(text: str) -> str:
    """Return the last line of a program's output that says what went wrong.

    Without such a line it is the last one that is not empty; without any, nothing.
    """
    lines = [line.strip() for line in text.splitlines() if not _IDLE.match(line)]
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or lines or [""])[-1][:LONGEST_LINE]


def last_lines(log: Path, n_lines: int = 12) -> str:
    """Return the last words of a log and its end, as the end of a sentence."""
    said = last_words(log_text(log))
    return f": {said}{end_of_log(log, n_lines)}" if said else f"; {log} is empty"


def end_of_log(log: Path, n_lines: int = 12) -> str:
    """Return the end of a log, as lines below a sentence; nothing if it is empty."""
    told = [line.rstrip() for line in log_text(log).splitlines() if line.strip()]
    return "\n".join([f"\nThe end of {log}:", *told[-n_lines:]]) if told else ""
