"""Universal potentials and ASE calculators."""

from __future__ import annotations

from ionloop.codes.common.ase import calculate, relax
from ionloop.codes.forcefield.level import level_of_theory
from ionloop.codes.forcefield.model import calculator, covered_elements
from ionloop.codes.forcefield.settings import ForceFieldSettings

__all__ = [
    "ForceFieldSettings",
    "calculate",
    "calculator",
    "covered_elements",
    "level_of_theory",
    "relax",
]
