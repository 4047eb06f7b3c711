"""The environment of a program: its variables, its threads, its command line."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator

from ionloop.programs.errors import ProgramNotFoundError

CORES = "{cores}"
"""What stands for the number of MPI ranks in a command."""


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
"""One thread per process, since several run at the same time; few log lines of TensorFlow.

This is the one policy on threads: for outside programs, for jobs, and for models in this process.
"""


WITHOUT_KERAS: Mapping[str, str] = MappingProxyType({"TF_USE_LEGACY_KERAS": "1"})
"""TensorFlow then does not import Keras, which takes 40% of its start and DeePMD-kit does not use.

In this process it is set only while DeePMD-kit is imported: other code may want Keras.
"""


# Open MPI would bind two jobs at the same time to the same first cores, and its ranks would wait
# for each other at full load on cores that other jobs need.
ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        **BASIC_ENVIRONMENT,
        **WITHOUT_KERAS,
        "OMPI_MCA_hwloc_base_binding_policy": "none",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
        "OMPI_MCA_mpi_yield_when_idle": "1",
    }
)
"""What every outside program gets, unless the environment of this process says otherwise."""


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


Command = Annotated[str, AfterValidator(lambda command: words_of(command) and command)]
"""A command with its arguments, as a shell splits it: not empty, quotation marks closed."""


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside this context.

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
