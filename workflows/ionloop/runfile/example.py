"""Write an example run file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from ruamel.yaml import YAML

from ionloop.formats.reading import read_frames
from ionloop.schemas.errors import InputError

LONGEST_NAME = 60
"""Characters of a name that is made from a file's name."""


STRUCTURE = "LGPS.vasp"


class ExistingFileError(InputError, FileExistsError):
    """A file would be overwritten."""


def write_example(
    path: Path, structures: Sequence[Path] = (), *, force: bool = False
) -> list[Path]:
    """Write a commented run file, and an example structure in the same folder if none is given.

    Parameters
    ----------
    path
        The run file to write.
    structures
        Start structures to name in it.
    force
        Whether to overwrite what is there.

    Returns
    -------
    list[Path]
        The files written.

    Raises
    ------
    ExistingFileError
        If one is there already.
    InputError
        If the folder is not there, or a structure's name reads as an environment variable.
    FrameFileError
        If a structure is not there, cannot be read, or has no cell.
    """
    for structure in structures:
        if found := re.search(r"\$\w+|\$\{\w+\}", str(structure)):
            variable = f"{found[0]} stands for an environment variable"
            raise InputError(f"{structure}: in a run file, {variable}; rename it")
        read_frames(structure)
    texts = {path: _run_file(path, structures)}
    if not structures:
        texts[path.parent / STRUCTURE] = _template(STRUCTURE)
    for target in texts:
        if target.exists() and not force:
            raise ExistingFileError(f"{target} exists; overwrite it with --force, or name another")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file")
    for target, text in texts.items():
        target.write_text(text)
    return list(texts)


def _run_file(path: Path, structures: Sequence[Path]) -> str:
    places = [os.path.relpath(structure, path.parent) for structure in structures] or [STRUCTURE]
    words = re.findall(r"\w[\w.-]*", Path(places[0]).resolve().stem.lower(), re.ASCII)
    name = "-".join(words).lstrip("_.-")[:LONGEST_NAME] or "run"
    return _template("run.yaml").format(
        name=_quoted(name), structures=", ".join(map(_quoted, places))
    )


def _quoted(text: str) -> str:
    """Return text as YAML reads it back, in quotation marks only where it must have them."""
    plain = re.fullmatch(r"[A-Za-z_./][\w./+-]*", text, re.ASCII)
    if plain and YAML(typ="safe", pure=True).load(text) == text:
        return text
    return json.dumps(text)


def _template(name: str) -> str:
    return files("ionloop.runfile").joinpath("templates").joinpath(name).read_text()
