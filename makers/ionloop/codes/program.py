"""Outside programs: run one in a folder within a time limit, and end all that it started."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ionloop.codes.errors import ProgramNotFoundError
from ionloop.schemas.errors import IonloopError

CORES = "{cores}"
"""What stands for the number of MPI ranks in a command."""

ENDING_SECONDS = 5.0
"""How long a program may take to end by itself once it was asked to, in s."""

# Open MPI would bind two jobs side by side to the same first cores, and its ranks would wait for
# each other at full load on cores that others need.
ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
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
        if self.status < 0:
            return f"was killed by signal {-self.status}"
        return f"ended with exit status {self.status}"


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


def last_lines(log: Path, n_lines: int = 12) -> str:
    """Return the end of a log, as the end of a sentence."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    told = [line.rstrip() for line in lines if line.strip()]
    return "\n".join([f"; the end of {log}:", *told[-n_lines:]]) if told else f"; {log} is empty"
