"""Data files of CP2K: basis sets and potentials."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ionloop.programs.process import ProgramError
from ionloop.schemas.errors import MissingFileError

if TYPE_CHECKING:
    from ionloop.codes.cp2k.settings import Cp2kSettings


_DATA = re.compile(r'__DATA_DIR="([^"]+)"')


def data_folder(text: str) -> Path:
    """Return the data folder that CP2K was built with, or that of the environment if it is set."""
    # CP2K breaks the compiler options at any place, into lines that begin with three blanks.
    built_with = _DATA.search(text.replace("\n   ", ""))
    folder = os.environ.get("CP2K_DATA_DIR") or (built_with[1] if built_with else None)
    if folder is None:
        raise ProgramError("CP2K does not say where its data are; set CP2K_DATA_DIR to the folder")
    return Path(folder)


def missing_kinds(
    settings: Cp2kSettings, elements: Iterable[str], data: Path
) -> Mapping[str, list[str]]:
    """Return the elements without basis set and those without pseudopotential.

    Parameters
    ----------
    settings
        Names and files of basis sets and pseudopotentials.
    elements
        Chemical symbols.
    data
        CP2K's data folder.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    """
    bases = {entry for name in settings.basis_files for entry in data_entries(data / name)}
    potentials = data_entries(data / settings.potential_file)
    wanted = [(symbol, *settings.basis_and_potential(symbol)) for symbol in elements]
    return {
        "basis set": [f"{s} {basis}" for s, basis, _ in wanted if (s, basis) not in bases],
        "pseudopotential": [f"{s} {name}" for s, _, name in wanted if (s, name) not in potentials],
    }


def data_entries(path: Path) -> dict[tuple[str, str], str]:
    """Return the entries of a data file of CP2K: a hash of the content by symbol and name.

    An entry begins with a line of symbol, name and aliases. Comments and spaces do not count.
    """
    if not path.is_file():
        raise MissingFileError(
            f"there is no file {path}; name it in label.basis_files or label.potential_file"
        )
    entries: dict[tuple[str, str], str] = {}
    head: list[str] = []
    body: list[str] = []
    lines = (line.split("#")[0].split() for line in path.read_text(errors="replace").splitlines())
    for line in (*filter(None, lines), ["End"]):
        if re.fullmatch(r"[A-Z][a-z]?|End", line[0]):
            content = hashlib.sha256("\n".join(body).encode()).hexdigest()[:12]
            entries |= {(head[0], name): content for name in head[1:]}
            head, body = line, []
        else:
            body.append(" ".join(line))
    return entries
