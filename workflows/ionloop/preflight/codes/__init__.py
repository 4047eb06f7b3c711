"""What the pre-flight check knows of each code: importing this package registers it."""

from __future__ import annotations

from ionloop.preflight.codes import (
    ase,
    deepmd,
    dft,
    dpa,
    external,
    finetune,
    forcefield,
    lammps,
    mace,
    vasp,
)

__all__ = [
    "ase",
    "deepmd",
    "dft",
    "dpa",
    "external",
    "finetune",
    "forcefield",
    "lammps",
    "mace",
    "vasp",
]
