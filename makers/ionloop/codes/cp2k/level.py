"""The level of theory of CP2K's settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ionloop.codes.cp2k.data import data_entries
from ionloop.schemas.kpoints import GAMMA, description, explicit
from ionloop.schemas.label import LevelOfTheory

if TYPE_CHECKING:
    from ionloop.codes.cp2k.settings import Cp2kSettings


def level_of_theory(settings: Cp2kSettings) -> LevelOfTheory:
    """Describe everything that decides the value of a label, without starting CP2K.

    Files in CP2K's own data folder count by name, because the version decides their content. Files
    that are given by a path count by their content for each element, wherever they are. Keys of
    older versions had neither, so nothing proves of which level their labels are.

    Raises
    ------
    FileNotFoundError
        If a file that is given by its path does not exist.
    """
    diagonalises = settings.smearing > 0 or explicit(settings.kpoints) != GAMMA
    own = [name for name in settings.basis_files if not _is_path(name)]
    about: dict[str, Any] = {
        "version": settings.version,
        "xc": settings.xc,
        "basis": settings.basis,
        "basis files": own,
        "pseudopotentials": settings.potential,
        "cut-off": f"{settings.cutoff:g} and {settings.relative_cutoff:g} Ry",
        "k-points": description(settings.kpoints),
        "spin": f"polarised, multiplicity {settings.multiplicity}"
        if settings.spin_polarised
        else "unpolarised",
        "smearing": f"{settings.smearing:g} eV",
        "convergence": f"{settings.scf_convergence:g}, precision {settings.precision:g}",
    }
    if not _is_path(settings.potential_file):
        about["potential file"] = settings.potential_file
    if diagonalises:
        about["empty orbitals"] = settings.empty_orbitals
    return LevelOfTheory(
        code="cp2k",
        settings=about,
        elements=_by_element(settings),
        start_cells=settings.start_cells,
    )


def _by_element(settings: Cp2kSettings) -> dict[str, dict[str, str]]:
    """Return by symbol: basis set and potential unless they are the common ones, and contents."""
    common = (settings.basis, settings.potential)
    about: dict[str, dict[str, str]] = {}
    for symbol in settings.kinds:
        basis, potential = settings.basis_and_potential(symbol)
        if (basis, potential) != common:
            about[symbol] = {"basis": basis, "potential": potential}
    for name in filter(_is_path, (*settings.basis_files, settings.potential_file)):
        for (symbol, entry), content in data_entries(Path(name)).items():
            if entry in settings.basis_and_potential(symbol):
                about.setdefault(symbol, {})[entry] = content
    return about


def _is_path(name: str) -> bool:
    return Path(name).is_absolute()
