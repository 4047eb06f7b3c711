"""Frames from and to dpdata."""

# mypy: allow-untyped-calls
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.formats.ase import chemical
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames

if TYPE_CHECKING:
    from dpdata import LabeledSystem, System


def to_dpdata(frames: Frames) -> System | LabeledSystem:
    """Convert to a dpdata system, labelled if the frames are.

    Atoms keep their order and the cell its orientation. dpdata has no place for the level.
    """
    import dpdata

    names = list(dict.fromkeys(frames.symbols))
    types = np.array([names.index(symbol) for symbol in frames.symbols], dtype=int)
    data: dict[str, Any] = {
        "atom_names": names,
        "atom_numbs": np.bincount(types).tolist(),
        "atom_types": types,
        "orig": np.zeros(3),
        "cells": frames.cells.copy(),
        "coords": frames.positions.copy(),
    }
    for name in ("energies", "forces", "virials"):
        if getattr(frames, name) is not None:
            data[name] = getattr(frames, name).copy()
    return dpdata.LabeledSystem(data=data) if frames.is_labelled else dpdata.System(data=data)


def from_dpdata(system: System | LabeledSystem, level: str | None = None) -> Frames:
    """Convert from a dpdata system.

    Parameters
    ----------
    system
        The system, labelled or not.
    level
        Hash of the level of theory of its labels, which dpdata does not know.

    Raises
    ------
    ValueError
        If it is not periodic, if its atom names are no chemical symbols, or if it has energies
        without forces.
    """
    data = system.data
    with np.errstate(invalid="ignore"):
        flat = not np.all(np.linalg.det(data["cells"]))
    if data.get("nopbc", False) or flat:
        raise InputError("the system has no periodic cell; give it one")
    return Frames(
        symbols=chemical(str(data["atom_names"][kind]) for kind in data["atom_types"]),
        positions=np.array(data["coords"], dtype=float),
        cells=np.array(data["cells"], dtype=float),
        energies=data.get("energies"),
        forces=data.get("forces"),
        virials=data.get("virials"),
        level=level if "energies" in data else None,
    )
