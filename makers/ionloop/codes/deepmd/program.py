"""Which DeePMD-kit is installed, and whether its backend runs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shlex
import shutil

from ionloop.programs.errors import cure_for
from ionloop.programs.process import PROBE_SECONDS, ProgramError, ask
from ionloop.schemas.errors import IonloopError

FLAGS = {"tensorflow": "--tf", "pytorch": "--pt"}

SUFFIXES = {"tensorflow": ".pb", "pytorch": ".pth"}


class MissingProgramError(IonloopError, RuntimeError):
    """DeePMD-kit or one of its backends is not there, or does not fit."""


def program_version(command: str = "dp") -> str:
    """Return the version of DeePMD-kit, such as ``3.2.0``.

    Raises
    ------
    MissingProgramError
        If the command is not on PATH, does not answer in time, or is not DeePMD-kit.
    """
    program = [*shlex.split(command), "--version"]
    check_program(command)
    try:
        answer = ask(program, seconds=PROBE_SECONDS)
    except ProgramError as error:
        raise MissingProgramError(str(error)) from None
    if answer.status:
        raise MissingProgramError(f"`{shlex.join(program)}` {answer.words}: {answer.last_words}")
    version = re.search(r"DeePMD-kit v(\S+)", answer.text)
    if version is None:
        raise MissingProgramError(
            f"`{shlex.join(program)}` does not answer as DeePMD-kit does but with "
            f"{answer.last_words!r}; set train.command to DeePMD-kit's dp"
        )
    return version[1]


def check_backend(backend: str, what: str = "", cure: str = "") -> None:
    """Check that a backend can run in this environment.

    Parameters
    ----------
    backend
        The backend.
    what
        Key and value of the run file that ask for it; by default train.backend.
    cure
        What else than another torch would help, as the end of a sentence; by default another
        backend.

    Raises
    ------
    MissingProgramError
        If its package is missing, or if the PyTorch that DeePMD-kit was built for and the one
        that is installed differ.
    """
    package = {"tensorflow": "tensorflow", "pytorch": "torch"}[backend]
    what = what or f"train.backend: {backend}"
    for name in ("deepmd", package):
        if importlib.util.find_spec(name) is None:
            raise MissingProgramError(
                f"{what} needs the package {name}; install with: pip install 'ionloop[deepmd]'"
            )
    if backend == "pytorch":
        _check_torch(what, cure or "set train.backend to tensorflow")


def _check_torch(what: str, cure: str) -> None:
    from deepmd.env import GLOBAL_CONFIG, SHARED_LIB_DIR

    built_for = GLOBAL_CONFIG["pt_version"]
    installed = importlib.metadata.version("torch").partition("+")[0]
    if built_for != installed and (SHARED_LIB_DIR / "libdeepmd_op_pt.so").exists():
        raise MissingProgramError(
            f"{what} does not run here: DeePMD-kit was built for PyTorch {built_for}, and "
            f"{installed} is installed; install torch=={built_for}, or {cure}"
        )


def check_program(command: str) -> None:
    """Check that DeePMD-kit's command is on PATH.

    Raises
    ------
    MissingProgramError
        If it is not.
    """
    program = shlex.split(command)[0]
    if shutil.which(program) is None:
        raise MissingProgramError(
            f"the command '{command}' was not found on PATH; {cure_for(program, 'deepmd')}, "
            "or set train.command to where DeePMD-kit is"
        )
