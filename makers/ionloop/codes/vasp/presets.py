"""Named VASP settings: those of the papers, where they give numbers.

What every preset shares is `FORCE_LABELS`; a preset adds the cut-off, the k-points and the PAW
potentials. POTCAR names follow from the valence electrons that a paper states. Where a paper
states no number, a comment says whose choice it is.

References
----------
Miyagawa et al., J. Mater. Chem. A 12, 11344 (2024) and its supporting information, section B.
Huang et al., J. Chem. Phys. 154, 094703 (2021).
Deng et al., supporting information of "Accelerating the discovery of disordered multi-component
solid-state electrolytes using machine learning interatomic potentials".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import PositiveFloat

from ionloop.schemas.document import Model
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import DEFAULT_SPACING, Kept, KPoints, mesh_of

if TYPE_CHECKING:
    from ionloop.codes.vasp.settings import VaspSettings

FORCE_LABELS: Mapping[str, Any] = {
    "GGA": "PE",
    "PREC": "Accurate",
    "LREAL": False,
    "LASPH": True,
    "ISPIN": 1,
    "ISMEAR": 0,
    "SIGMA": 0.05,
    "EDIFF": 1e-6,
    "ALGO": "Normal",
    "NELM": 100,
    "NELMIN": 4,
    "ISYM": 0,
    "IBRION": -1,
    "NSW": 0,
    "ISIF": 2,
    "LWAVE": False,
    "LCHARG": False,
}
"""INCAR of a force label, but for the cut-off.

Fit for forces: augmentation charges on the fine grid without wrap-around (PREC), reciprocal
projectors (LREAL), 1e-6 eV and at least four steps (EDIFF, NELMIN), no symmetry (ISYM; a frame of
MD has none), Gaussian smearing narrow enough for an insulator (ISMEAR, SIGMA), stress (ISIF).
"""


class Preset(Model):
    """Cut-off, k-points and PAW potentials of a material."""

    encut: PositiveFloat
    """plane-wave cut-off in eV"""
    kpoints: KPoints
    """gamma, or the largest spacing in 1/Å (KSPACING)"""
    potcars: Mapping[str, tuple[str, int]]
    """POTCAR of each element, and its valence electrons"""


_SULPHIDE = {"Li": ("Li_sv", 3), "Ge": ("Ge_d", 14), "P": ("P", 5), "S": ("S", 6)}

_NA3SBS4 = {"Na": ("Na_pv", 7), "Sb": ("Sb", 5), "S": ("S", 6)}


PRESETS: Mapping[str, Preset] = {
    # α-AgI in a cell of 128 atoms or more: PBE, 280 eV, Γ (Miyagawa 2024, ESI).
    "agi": Preset(encut=280, kpoints="gamma", potcars={"Ag": ("Ag", 11), "I": ("I", 7)}),
    # Li10GeP2S12 in the 200-atom cell: PBE, 500 eV, Γ (Miyagawa 2024, ESI).
    "lgps": Preset(encut=500, kpoints="gamma", potcars=_SULPHIDE),
    # Li10MP2S12, M = Ge, Si, Sn, in cells of any size (the systems of Huang 2021, whose text gives
    # PBE and PAW alone). Cut-off and the PAW potentials of Li, Ge, P, S as Miyagawa 2024; 0.5 1/Å
    # is our choice: 2×2×1 points in the 50-atom cell and Γ in Miyagawa's 200-atom cell, which is
    # the same sampling. Si and Sn: our choice.
    "li10mp2s12": Preset(
        encut=500, kpoints=0.5, potcars={**_SULPHIDE, "Si": ("Si", 4), "Sn": ("Sn_d", 14)}
    ),
    # Na3SbS4 in the 128-atom cell: PBE, 400 eV, Γ (Miyagawa 2024, ESI).
    "na3sbs4": Preset(encut=400, kpoints="gamma", potcars=_NA3SBS4),
    # Na3SbS4 doped with W, 127 atoms: as na3sbs4, W with 6 electrons (Miyagawa 2024, ESI).
    "na3sbs4-w": Preset(encut=400, kpoints="gamma", potcars={**_NA3SBS4, "W": ("W", 6)}),
    # Na3Zr2Si2PO12 (a system of Deng et al., whose supporting information gives no DFT settings).
    # All our choice: PBE, 520 eV (1.3 times the largest ENMAX, oxygen's), 0.5 1/Å, the semicore
    # potentials of Na and Zr.
    "nasicon": Preset(
        encut=520,
        kpoints=0.5,
        potcars={
            "Na": ("Na_pv", 7),
            "Zr": ("Zr_sv", 12),
            "Si": ("Si", 4),
            "P": ("P", 5),
            "O": ("O", 6),
        },
    ),
    # Li-P-Ge-S-O sulphide oxides and their Si variants (LPGSO of Deng et al., whose supporting
    # information gives no DFT settings). All our choice: PBE, 520 eV for oxygen, 0.5 1/Å, the PAW
    # potentials of li10mp2s12.
    "lpgso": Preset(encut=520, kpoints=0.5, potcars={**_SULPHIDE, "Si": ("Si", 4), "O": ("O", 6)}),
    # Li3InxY1-xBr6yCl6-6y (a system of Deng et al., whose supporting information names PBE and no
    # other setting). Our choice: 520 eV, 0.5 1/Å, In with its 4d and Y with its semicore electrons.
    "li3inybrcl": Preset(
        encut=520,
        kpoints=0.5,
        potcars={
            "Li": ("Li_sv", 3),
            "In": ("In_d", 13),
            "Y": ("Y_sv", 11),
            "Br": ("Br", 7),
            "Cl": ("Cl", 7),
        },
    ),
}
"""The presets by name."""


def cutoff(settings: VaspSettings) -> float:
    """Return the plane-wave cut-off in eV."""
    return settings.encut if settings.encut is not None else PRESETS[str(settings.preset)].encut


def kpoints(settings: VaspSettings) -> KPoints:
    """Return the k-points: those of the settings, of their preset, or the default spacing."""
    if settings.kpoints is not None:
        return settings.kpoints
    return PRESETS[settings.preset].kpoints if settings.preset else DEFAULT_SPACING


def of_frame(settings: VaspSettings, frame: Frames) -> VaspSettings:
    """Return settings with the mesh of a frame, if meshes are kept from the start cells.

    Parameters
    ----------
    settings
        The level of theory.
    frame
        Frames of one.
    """
    if not isinstance(kpoints(settings), Kept):
        return settings
    return settings.model_copy(update={"kpoints": mesh_of(kpoints(settings), frame)})


def potcars(settings: VaspSettings) -> dict[str, str]:
    """Return the POTCAR of each element."""
    preset = PRESETS[settings.preset].potcars if settings.preset else {}
    return {element: symbol for element, (symbol, _) in preset.items()} | settings.potcars


def valence(settings: VaspSettings, element: str) -> int | None:
    """Return the valence electrons of a POTCAR in the preset, or None if it does not say.

    Parameters
    ----------
    settings
        The level of theory.
    element
        Chemical symbol.
    """
    if settings.preset is None or element in settings.potcars:
        return None
    known = PRESETS[settings.preset].potcars.get(element)
    return known[1] if known else None


def check_elements(settings: VaspSettings, elements: Sequence[str]) -> None:
    """Check that the settings name a POTCAR for every element.

    Parameters
    ----------
    settings
        The level of theory.
    elements
        Chemical symbols.

    Raises
    ------
    ValueError
        Naming the elements and the cure.
    """
    missing = [symbol for symbol in dict.fromkeys(elements) if symbol not in potcars(settings)]
    if missing:
        raise InputError(
            f"no POTCAR is named for {', '.join(missing)}; say which one, such as "
            f"potcars: {{{missing[0]}: {missing[0]}}}"
        )
