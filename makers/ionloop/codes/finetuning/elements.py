"""Elements of the bases that come with packages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_MPTRJ = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb
Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Ac Th Pa U Np Pu
"""

MPTRJ = frozenset(_MPTRJ.split())
"""Elements of the data set MPtrj, of which all of these bases are (Deng et al., Nat. Mach. Intell.
5, 1031, 2023): all up to Bi, and Ac to Pu."""

ELEMENTS: Mapping[str, frozenset[str]] = dict.fromkeys(
    ("7net-0", "7net-0_22may2024", "7net-l3i5", "7net-mf-0", "chgnet"), MPTRJ
)
"""Chemical symbols that a base knows, by its name."""


def others_with(symbols: Iterable[str]) -> list[str]:
    """Return the names of the bases that know all of some elements.

    Parameters
    ----------
    symbols
        Chemical symbols.
    """
    return [name for name, known in ELEMENTS.items() if known.issuperset(symbols)]
