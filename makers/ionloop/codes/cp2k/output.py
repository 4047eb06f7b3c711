"""What CP2K writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ionloop.codes.common.dft import check_version
from ionloop.programs.process import ProgramError
from ionloop.schemas.packed import Array

if TYPE_CHECKING:
    from ionloop.codes.cp2k.settings import Cp2kSettings


# CP2K's own constants (CODATA 2006 in version 2023.1; the difference to newer ones is 1e-8).
HARTREE = 27.21138386  # eV

BOHR = 0.52917720859  # Å

GPA = 1 / 160.21764874  # eV/Å³

PRESSURES = {"GPa": GPA, "kbar": GPA / 10, "bar": GPA / 10_000}


_NUMBER = r"[-+]?\d+\.\d+(?:[ED][-+]?\d+)?"

_THREE = rf"({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})"

_ENERGY = re.compile(rf"ENERGY\| Total FORCE_EVAL.*?({_NUMBER})\s*$", re.MULTILINE)

# Up to 2024: atom, kind, element, three forces. From 2025 on: atom, three forces, their norm.
_FORCES = re.compile(
    r"ATOMIC FORCES in \[a\.u\.\].*?SUM OF ATOMIC FORCES"
    r"|FORCES\| Atomic forces \[hartree/bohr\].*?FORCES\| Sum",
    re.DOTALL,
)

_FORCE = re.compile(
    rf"^\s*(?:\d+\s+\d+\s+\S+\s+{_THREE}|FORCES\|\s+\d+\s+{_THREE}\s+{_NUMBER})\s*$", re.M
)

_STRESS = re.compile(
    r"STRESS\| Analytical stress tensor \[(\w+)\]\s*\n\s*STRESS\|\s+x\s+y\s+z\s*\n(.*?)1/3",
    re.DOTALL,
)

_ROW = re.compile(rf"STRESS\|\s+[xyz]\s+{_THREE}")

VERSION = re.compile(r"CP2K version (\S+)")

RANKS = re.compile(r"Total number of message passing processes\s+(\d+)")


def read_output(text: str) -> tuple[float, Array, Array]:
    """Read energy (eV), forces (eV/Å) and stress (eV/Å³, ASE's sign) from CP2K's output.

    CP2K prints the stress with the opposite sign: positive under compression. The function reads
    both tables of forces, that of versions up to 2024 and the one from 2025 on, and every unit of
    stress in `PRESSURES`.

    Raises
    ------
    ProgramError
        If one of them is missing, or the stress is in a unit that is not known.
    """
    energies, forces = _ENERGY.findall(text), _FORCES.search(text)
    stress = _STRESS.search(text)
    parts = {"energy": energies, "forces": forces, "analytical stress tensor": stress}
    missing = [name for name, found in parts.items() if not found]
    if missing or forces is None or stress is None:
        raise ProgramError(f"CP2K's output lacks {', '.join(missing)}; was it cut short?")
    unit, rows = stress.groups()
    if unit not in PRESSURES:
        raise ProgramError(f"CP2K gives the stress in {unit}; known: {', '.join(PRESSURES)}")
    return (
        float(energies[-1]) * HARTREE,
        _table(_FORCE.findall(forces[0])) * HARTREE / BOHR,
        -PRESSURES[unit] * _table(_ROW.findall(rows)),
    )


def _table(rows: Sequence[tuple[str, ...]]) -> Array:
    return np.array([[float(x.replace("D", "E")) for x in row if x] for row in rows])


def read_version(settings: Cp2kSettings, text: str) -> str:
    """Return the version of CP2K that its output names.

    Parameters
    ----------
    settings
        They say which version is expected.
    text
        Output that holds the version.

    Raises
    ------
    OtherLevelError
        If the version is another one.
    """
    match = VERSION.search(text)
    found = match[1] if match else "unknown"
    check_version("CP2K", found, "version", settings.version)
    return found
