"""Models of MACE as ASE calculators, evaluated by MACE's own Python.

A model file is one of MACE, to which a record is added that says with which Python it was trained.
It is used for predictions where it is there. On another machine an environment variable names that
machine's; torch passes over the record.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.ase import as_calculator
from ionloop.codes.mace.server import CURE, VARIABLE, command, server
from ionloop.programs.errors import ProgramNotFoundError
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

RECORD = "ionloop.json"

HERE = f"${{{VARIABLE}}}"
"""Command of the Python of MACE's environment on this machine."""


def calculator(model: Path, device: str = "cpu") -> Calculator:
    """Return the ASE calculator of a model file.

    Parameters
    ----------
    model
        Model file of MACE.
    device
        Device of torch.

    Raises
    ------
    InputError
        If the Python of MACE's environment is not known here.
    """
    return with_python(python_of(model), model, device)


def with_python(python: str, model: Path, device: str = "cpu") -> Calculator:
    """Return the ASE calculator of a model file, run by a given Python.

    Parameters
    ----------
    python
        Command of the Python of MACE's environment.
    model
        Model file of MACE.
    device
        Device of torch.
    """
    process, path = server(python, device), str(model.absolute())

    def calculate(frame: Frames) -> Calculated:
        atoms = {
            "symbols": list(frame.symbols),
            "positions": frame.positions[0].tolist(),
            "cell": frame.cells[0].tolist(),
        }
        answer = process.ask("predict", model=path, atoms=atoms)
        return Calculated(
            energy=answer["energy"],
            forces=np.array(answer["forces"]),
            virial=-frame.volumes[0] * np.array(answer["stress"]),
        )

    return as_calculator(calculate)


def python_of(model: Path) -> str:
    """Return the command of the Python that evaluates a model here.

    Parameters
    ----------
    model
        Model file of MACE.

    Raises
    ------
    InputError
        If neither the record of the model nor the environment variable leads to one.
    """
    trained_with = record(model).get("python")
    if trained_with is not None:
        try:
            command(trained_with)
        except ProgramNotFoundError:
            pass
        else:
            return str(trained_with)
    try:
        command(HERE)
    except ProgramNotFoundError as problem:
        before = f", and {trained_with}, which trained it, is not here" if trained_with else ""
        raise InputError(
            f"{model.name} is a model of MACE, which needs the Python of MACE's environment: "
            f"{VARIABLE} does not name one{before}; {CURE} on this machine"
        ) from problem
    return HERE


def record(model: Path) -> dict[str, Any]:
    """Return what was added to a model file; nothing for a model that ionloop did not train.

    Parameters
    ----------
    model
        Model file of MACE.
    """
    try:
        with zipfile.ZipFile(model) as archive:
            name = f"{_root(archive)}/{RECORD}"
            found = archive.read(name) if name in archive.namelist() else b"{}"
    except (zipfile.BadZipFile, OSError):
        return {}
    about: dict[str, Any] = json.loads(found)
    return about


def add_record(model: Path, about: Mapping[str, Any]) -> None:
    """Add a record to a model file.

    Parameters
    ----------
    model
        Model file of MACE.
    about
        What the record says.
    """
    with zipfile.ZipFile(model, "a") as archive:
        # torch wants every file of its archive in one folder; a fixed date keeps its hash the same.
        archive.writestr(zipfile.ZipInfo(f"{_root(archive)}/{RECORD}"), json.dumps(dict(about)))


def _root(archive: zipfile.ZipFile) -> str:
    return archive.namelist()[0].partition("/")[0]
