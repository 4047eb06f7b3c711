"""The level of theory of GPAW's settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ionloop.schemas.kpoints import description
from ionloop.schemas.label import LevelOfTheory

if TYPE_CHECKING:
    from ionloop.codes.gpaw.settings import GpawSettings

# Options of GPAW that change how it computes, not what.
ARRANGEMENT = {"parallel", "verbose", "communicator"}

# GPAW takes "default" and numbers of atoms beside chemical symbols.
_SYMBOL = re.compile(r"[A-Z][a-z]?")


def level_of_theory(settings: GpawSettings) -> LevelOfTheory:
    """Describe everything that decides the value of a label, without starting GPAW.

    Command, limits, time limit and step limit are left out: they decide whether there is a
    label, not its value.
    """
    about: dict[str, Any] = {
        "version": settings.version,
        "setups": settings.setups_version,
        "xc": settings.xc,
        "cut-off": f"{settings.cutoff:g} eV",
        "k-points": description(settings.kpoints),
        "spin": "polarised" if settings.spin_polarised else "unpolarised",
        "smearing": f"{settings.smearing:g} eV",
        "convergence": f"{settings.energy_convergence:g} eV, {settings.density_convergence:g} e",
    }
    options = {k: v for k, v in settings.options.items() if k not in ARRANGEMENT}
    moments = settings.magnetic_moments if settings.spin_polarised else {}
    of_no_element = {k: v for k, v in settings.setups.items() if not _SYMBOL.fullmatch(k)}
    # In older versions every key covered all elements of the settings.
    before = about | _filled(
        {"special setups": settings.setups, "magnetic moments": moments, "options": options}
    )
    return LevelOfTheory(
        code="gpaw",
        settings=about | _filled({"special setups": of_no_element, "options": options}),
        elements=_by_element(
            {"setup": settings.setups, "magnetic moment": {k: v for k, v in moments.items() if v}}
        ),
        start_cells=settings.start_cells,
        former=[LevelOfTheory(code="gpaw", settings=before).hash],
    )


def _by_element(tables: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Turn dictionaries by name and chemical symbol into one by symbol and name."""
    symbols = sorted({symbol for table in tables.values() for symbol in table})
    return {
        symbol: {name: table[symbol] for name, table in tables.items() if symbol in table}
        for symbol in symbols
        if _SYMBOL.fullmatch(symbol)
    }


def _filled(named: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in named.items() if value}
