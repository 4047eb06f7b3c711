"""Universal potentials and ASE calculators."""

from ionloop.codes.forcefield.settings import ForceFieldSettings

__all__ = ["ForceFieldSettings"]
