"""Environment variables in what a user gives: the name of a file, the URL of a store."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ionloop.schemas.errors import InputError


def expand(text: str) -> str:
    """Return a text with its environment variables, ``$NAME`` or ``${NAME}``, put in.

    Raises
    ------
    InputError
        If one in braces is not set: what is left of it would be taken for a part of the name.
    """
    expanded = os.path.expandvars(text)
    if missing := re.search(r"\$\{(\w+)\}", expanded):
        raise InputError(f"{text}: the environment variable {missing[1]} is not set")
    return expanded


def absolute(path: Path, folder: Path) -> Path:
    """Return the path of a file, its variables and ``~`` put in, absolute.

    Parameters
    ----------
    path
        As the user gives it.
    folder
        What it is relative to.

    Raises
    ------
    InputError
        If an environment variable in it is not set.
    """
    # pathlib's own refuses a name such as ~start.vasp, where there is no such user.
    return (folder / os.path.expanduser(expand(str(path)))).absolute()  # noqa: PTH111
