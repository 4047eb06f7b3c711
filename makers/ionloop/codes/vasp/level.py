"""The level of theory of VASP's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ionloop.codes.vasp.inputs import incar
from ionloop.codes.vasp.potcars import identities
from ionloop.codes.vasp.presets import check_elements, cutoff, kpoints, potcars
from ionloop.codes.vasp.tags import FREE, deciding, plain
from ionloop.schemas.kpoints import GAMMA, Kept, KPoints, description, explicit, times
from ionloop.schemas.label import LevelOfTheory

if TYPE_CHECKING:
    from ionloop.codes.vasp.settings import VaspSettings

_APART = frozenset({"ENCUT", "KSPACING", "KGAMMA"})
"""INCAR tags of the cut-off and the k-points, which are entries of their own in the level."""


def level_of_theory(settings: VaspSettings) -> LevelOfTheory:
    """Describe everything that decides the value of a label, without starting VASP.

    Tags that only decide how a result is reached (`FREE`), the command and the limits are left
    out. The same settings written as a preset or in full are one level. POTCARs count by title and
    content, not by name. If the settings do not identify the POTCARs, those of this host are read.
    An element whose POTCAR is not known either way appears with the name of its POTCAR; it cannot
    be labelled (`check_known`).
    """
    tags = deciding(incar(settings))
    known, points = identities(settings), kpoints(settings)
    # Moments and Hubbard parameters are given by symbol, and count for frames with that element.
    symbols = potcars(settings)
    by_element = {tag: value for tag, value in tags.items() if _is_by_element(value, symbols)}
    return LevelOfTheory(
        code="vasp",
        settings={
            "version": settings.version,
            "ENCUT": plain(cutoff(settings)),
            "k-points": description(points),
            **{tag: tags[tag] for tag in sorted(tags.keys() - by_element - _APART)},
        },
        elements={
            element: (
                known[element].model_dump()
                if element in known
                else {"POTCAR": f"{settings.potcar_functional} {symbol}"}
            )
            | {tag: table[element] for tag, table in by_element.items() if element in table}
            for element, symbol in symbols.items()
        },
        start_cells=points.start_cells if isinstance(points, Kept) else [],
    )


def _is_by_element(value: Any, symbols: Mapping[str, str]) -> bool:
    """Tell whether the value of a tag is a dictionary of numbers by chemical symbol."""
    of_elements = isinstance(value, Mapping) and value.keys() <= symbols.keys()
    return of_elements and not any(isinstance(each, Mapping) for each in value.values())


def doubtful_keys(settings: VaspSettings) -> list[str]:
    """Return the hash under which version 0.1 stored labels that may be of this level.

    It covered only the names of the POTCARs of all elements of the settings, and not the version
    of VASP, and no label of that time says what it was calculated with. So it cannot be known
    whether they are of this level.
    """
    spacing = kpoints(settings)
    if not isinstance(spacing, str | float | int):
        return []  # version 0.1 knew only Γ and a spacing
    free = FREE | _APART | {"ISYM", "SYMPREC", "NBANDS", "LDIAG"}
    names = [settings.potcar_functional, *sorted(potcars(settings).values())]
    content = {
        "ENCUT": plain(cutoff(settings)),
        "k-points": "Γ" if isinstance(spacing, str) else f"spacing {spacing:g} 1/Å",
        "POTCAR": " ".join(names),
        **{tag: plain(value) for tag, value in incar(settings).items() if tag not in free},
    }
    return [LevelOfTheory(code="vasp", settings=content).hash]


def in_words(settings: VaspSettings, elements: Sequence[str]) -> dict[str, str]:
    """Describe INCAR, KPOINTS and POTCAR.spec of a label in one line each.

    Parameters
    ----------
    settings
        The level of theory.
    elements
        Chemical symbols of the structures.

    Raises
    ------
    ValueError
        If an element has no POTCAR in the settings.
    """
    check_elements(settings, elements)
    symbols = potcars(settings)
    spec = " ".join(symbols[element] for element in elements)
    return {
        "INCAR": ", ".join(f"{tag} = {value}" for tag, value in sorted(incar(settings).items())),
        "KPOINTS": _kpoints_file(kpoints(settings)),
        "POTCAR.spec": f"{settings.potcar_functional}: {spec}",
    }


def _kpoints_file(points: KPoints) -> str:
    mesh = explicit(points)
    if mesh is not None:
        return "Γ alone" if mesh == GAMMA else f"{times(mesh)}, Γ-centred"
    if isinstance(points, Kept):
        return f"the mesh of {points.kept:g} 1/Å in the start cell, kept, Γ-centred"
    return f"no file; KSPACING = {points:g} 1/Å, Γ-centred"
