"""Write an example run file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

STRUCTURE = "LGPS.vasp"


def write_example(
    path: Path, structures: Sequence[Path] = (), *, force: bool = False
) -> list[Path]:
    """Write a commented run file, with an example structure beside it if none is given.

    Parameters
    ----------
    path
        The run file to write.
    structures
        Start structures that it shall name.
    force
        Whether to overwrite what is there.

    Returns
    -------
    list[Path]
        The files written.

    Raises
    ------
    FileExistsError
        If one is there already.
    FileNotFoundError
        If a structure is not there.
    """
    for structure in structures:
        if not structure.exists():
            raise FileNotFoundError(f"there is no structure file {structure}; check the path")
    texts = {path: _run_file(path, structures)}
    if not structures:
        texts[path.parent / STRUCTURE] = _template(STRUCTURE)
    for target in texts:
        if target.exists() and not force:
            raise FileExistsError(f"{target} exists; overwrite it with --force, or name another")
    for target, text in texts.items():
        target.write_text(text)
    return list(texts)


def _run_file(path: Path, structures: Sequence[Path]) -> str:
    places = [_relative(structure, path.parent) for structure in structures] or [STRUCTURE]
    name = Path(places[0]).stem.lower()
    return _template("run.yaml").format(name=name, structures=", ".join(places))


def _relative(structure: Path, folder: Path) -> str:
    return os.path.relpath(structure, folder)


def _template(name: str) -> str:
    return files("ionloop.config").joinpath("templates", name).read_text()
