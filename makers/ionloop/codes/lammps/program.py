"""Which LAMMPS is installed, and whether it understands the models."""

from __future__ import annotations

import re
import shlex
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from ionloop.codes.lammps.script import PAIR_STYLES
from ionloop.programs.errors import cure_for
from ionloop.programs.process import PROBE_SECONDS, Answer, ProgramError, ask
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.potential import DEEPMD

START_LOG = "start.log"


class LammpsError(IonloopError, RuntimeError):
    """LAMMPS is absent, cannot run DeePMD models, or refused its input."""


def program_version(command: str, kind: str = DEEPMD) -> str:
    """Return LAMMPS' version after checking that it has the pair style (takes seconds).

    Parameters
    ----------
    command
        The command that runs LAMMPS.
    kind
        Kind of the potentials, a key of `PAIR_STYLES`.

    Raises
    ------
    LammpsError
        If the command is absent, fails, or lacks the pair style of such potentials.
    """
    answer = _ask(command, "info styles pair\n")
    version = _version(answer.text)
    if version is None:
        said = answer.last_words or "nothing"
        raise LammpsError(
            f"explore.command: {command!r} did not start LAMMPS: it {answer.words} and said: {said}"
        )
    style = PAIR_STYLES[kind].split()[0]
    if style not in answer.text.split():
        raise LammpsError(
            f"explore.command: {command!r} has no pair_style {style}; "
            "install one that has: pip install 'ionloop[deepmd]'"
        )
    return version


def check_models(command: str, suffix: str, kind: str = DEEPMD) -> None:
    """Check that LAMMPS loads model files of a format (takes seconds).

    The part of DeePMD-kit's plugin that belongs to a backend is loaded with the first model, and
    only where it fits the installed PyTorch or TensorFlow.

    Parameters
    ----------
    command
        The command that runs LAMMPS.
    suffix
        Suffix of the model files, such as ``.pb`` or ``.pth``.
    kind
        Kind of the potentials, a key of `PAIR_STYLES`.

    Raises
    ------
    LammpsError
        If it does not.
    """
    with TemporaryDirectory() as name:
        models = [f"first{suffix}", f"second{suffix}"]
        for model in models:
            (Path(name) / model).touch()
        style = PAIR_STYLES[kind].format(models=" ".join(models), every=1, deviation="devi")
        text = _ask(command, f"units metal\npair_style {style}\n", Path(name)).text
    if found := re.search(r"Unable to load (\w+) backend plugin.*?(?=\n\S|\Z)", text, re.S):
        why = f"; {found[0].splitlines()[-1].strip()[-200:]}"
        raise LammpsError(
            f"explore.command: {command!r} does not load {found[1]} models ({suffix}): "
            f"{_cure_of_backend(found[1])}{why}"
        )


def _ask(command: str, question: str, folder: Path | None = None) -> Answer:
    arguments = [*command_words(command), "-log", "none"]
    try:
        return ask(arguments, question, folder=folder, seconds=PROBE_SECONDS)
    except ProgramError as error:
        raise LammpsError(f"explore.command: {error}") from None


def _cure_of_backend(backend: str) -> str:
    if backend != "PyTorch" or find_spec("deepmd") is None or find_spec("torch") is None:
        return "install DeePMD-kit's plugin with that backend, or set train.backend to another"
    from deepmd.env import GLOBAL_CONFIG

    return (
        f"its plugin was built for PyTorch {GLOBAL_CONFIG['pt_version']}, and {version('torch')} "
        f"is installed; install torch=={GLOBAL_CONFIG['pt_version']}, or set train.backend to "
        "tensorflow"
    )


def version_of_run(folder: Path) -> str:
    """Return the version of the LAMMPS that ran in a folder, from its log.

    Raises
    ------
    LammpsError
        If no LAMMPS ran there.
    """
    log = next(iter(sorted(folder.rglob(START_LOG))), folder / START_LOG)
    version = _version(log.read_text()) if log.exists() else None
    if version is None:
        raise LammpsError(f"{log} does not say which LAMMPS ran; has one run there?")
    return version


def _version(text: str) -> str | None:
    found = re.search(r"LAMMPS \((.+)\)", text)
    return found[1] if found else None


def command_words(command: str) -> list[str]:
    """Split the command that runs LAMMPS.

    Raises
    ------
    LammpsError
        If its program is not on PATH.
    """
    arguments = shlex.split(command)
    if not arguments or shutil.which(arguments[0]) is None:
        raise LammpsError(
            f"explore.command: {command!r} was not found on PATH; "
            f"{cure_for(arguments[0] if arguments else '', 'deepmd')}, or name your own LAMMPS"
        )
    return arguments
