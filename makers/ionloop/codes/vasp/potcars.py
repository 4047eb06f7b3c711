"""Find and identify POTCARs."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from ionloop.codes.common.errors import OtherLevelError
from ionloop.codes.vasp.presets import check_elements, potcars
from ionloop.schemas.document import Model
from ionloop.schemas.errors import InputError, IonloopError

if TYPE_CHECKING:
    from pymatgen.io.vasp.inputs import PotcarSingle

    from ionloop.codes.vasp.settings import VaspSettings


SAME_POTCAR = (
    "let PMG_VASP_PSP_DIR name the same release on every host, or say in label.potentials which "
    "one is meant"
)

NOTES = ("SHA256", "COPYR")
"""First words of lines that are about a POTCAR and no part of the potential."""


class MissingPotcarError(IonloopError, FileNotFoundError):
    """A POTCAR is not where pymatgen looks for it, or was not where the Maker was made."""


class PotcarIdentity(Model):
    """What a POTCAR is, whatever the folder and the file are called."""

    title: str
    """its TITEL, with the date, such as PAW_PBE Li_sv 10Sep2004"""
    sha256: str = Field(pattern="^[0-9a-f]{12}$")
    """first twelve hexadecimal digits of the sha256 of its content"""

    @property
    def words(self) -> str:
        """Title and hash."""
        return f"{self.title}, sha256 {self.sha256}"

    @property
    def yaml(self) -> str:
        """Title and hash as the run file says them; the hash in quotes, as it may be a number."""
        return f"title: {self.title}, sha256: '{self.sha256}'"


def pinned(settings: VaspSettings) -> VaspSettings:
    """Return settings that identify each POTCAR; those of this host, unless they do so already.

    Elements whose POTCAR this host does not have are left out for good: a Maker labels at the
    level that it had on the host where it was made, wherever its jobs run.
    """
    return settings.model_copy(update={"potentials": identities(settings)})


def identities(settings: VaspSettings) -> dict[str, PotcarIdentity]:
    """Return what the POTCAR of each element is: what the settings say, or that of this host."""
    if settings.potentials is not None:
        return settings.potentials
    found = {}
    for element, symbol in potcars(settings).items():
        with suppress(MissingPotcarError, ValueError):
            found[element] = find_potential(symbol, settings.potcar_functional).identity
    return found


def check_known(settings: VaspSettings, elements: Sequence[str]) -> dict[str, PotcarIdentity]:
    """Return what the POTCAR of each element is; that of every given element has to be known.

    Parameters
    ----------
    settings
        The level of theory.
    elements
        Chemical symbols.

    Raises
    ------
    MissingPotcarError
        Naming the element and the cure.
    ValueError
        If an element has no POTCAR in the settings.
    """
    check_elements(settings, elements)
    known = identities(settings)
    for element in dict.fromkeys(elements):
        if element not in known:
            symbol = potcars(settings)[element]
            raise MissingPotcarError(
                f"which POTCAR the labels of {element} are of is not known: "
                f"{_unknown(settings, symbol)}; or say it in label.potentials, which `ionloop "
                "check` prints on a host that has the POTCARs"
            )
    return known


def _unknown(settings: VaspSettings, symbol: str) -> str:
    if settings.potentials is None:
        try:
            find_potential(symbol, settings.potcar_functional)
        except (MissingPotcarError, ValueError) as problem:
            return str(problem)
    return f"neither label.potentials says it, nor was {symbol} where the run was made"


def check_potcars(settings: VaspSettings, elements: Sequence[str]) -> None:
    """Check that the POTCARs of this host are those of the level of theory.

    Parameters
    ----------
    settings, elements
        As for `check_known`.

    Raises
    ------
    OtherLevelError
        Naming both and the cure.
    MissingPotcarError
        If a POTCAR is not here, or it is not known which one is meant.
    ValueError
        If an element has no POTCAR in the settings.
    """
    known = check_known(settings, elements)
    for element in dict.fromkeys(elements):
        symbol = potcars(settings)[element]
        here = find_potential(symbol, settings.potcar_functional).identity
        if here != known[element]:
            raise OtherLevelError(
                f"the POTCAR of {symbol} ({settings.potcar_functional}) of this host is "
                f"{here.words}; the labels are of {known[element].words}: {SAME_POTCAR}"
            )


def identify(potcar: PotcarSingle) -> PotcarIdentity:
    """Return title and hash of a POTCAR.

    White space does not count, nor do the lines with hash and copyright of later releases.
    """
    lines = (" ".join(line.split()) for line in potcar.data.strip().splitlines())
    content = "\n".join(line for line in lines if not line.startswith(NOTES))
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return PotcarIdentity(title=" ".join(potcar.TITEL.split()), sha256=digest)


@dataclass(frozen=True)
class Potential:
    """The header of a POTCAR.

    Parameters
    ----------
    identity
        Its TITEL and the hash of its content.
    valence
        Valence electrons.
    enmax
        Recommended cut-off in eV.
    known
        Whether pymatgen knows its content: then it is complete and of the right release.
    """

    identity: PotcarIdentity
    valence: float
    enmax: float
    known: bool


def find_potential(symbol: str, functional: str) -> Potential:
    """Look for a POTCAR where pymatgen looks for it.

    Parameters
    ----------
    symbol
        Its name, such as Li_sv.
    functional
        Its release, such as PBE_54.

    Raises
    ------
    MissingPotcarError
        If PMG_VASP_PSP_DIR is not set or has no such file.
    ValueError
        If pymatgen knows no such release.
    """
    from pymatgen.io.vasp.inputs import PotcarSingle

    if functional not in PotcarSingle.functional_dir:
        known = ", ".join(PotcarSingle.functional_dir)
        raise InputError(f"there is no potcar_functional {functional!r}; known: {known}")
    try:
        with warnings.catch_warnings(action="ignore"):
            single = PotcarSingle.from_symbol_and_functional(symbol, functional)
    except (OSError, ValueError) as problem:
        raise MissingPotcarError(_potcar_sentence(symbol, functional)) from problem
    except (LookupError, AttributeError) as problem:  # pymatgen misses something in it
        raise MissingPotcarError(
            f"the POTCAR of {symbol} ({functional}) cannot be read, it may be cut short"
        ) from problem
    return Potential(identify(single), single.zval, single.enmax, single.is_valid)


def _potcar_sentence(symbol: str, functional: str) -> str:
    from pymatgen.core import SETTINGS
    from pymatgen.io.vasp.inputs import PotcarSingle

    folder = SETTINGS.get("PMG_VASP_PSP_DIR")
    if folder is None:
        return (
            f"the POTCAR of {symbol} ({functional}) cannot be found: PMG_VASP_PSP_DIR is not set; "
            "set it to the folder of the POTCARs, in the environment or in ~/.config/.pmgrc.yaml"
        )
    place = f"{folder}/{PotcarSingle.functional_dir[functional]}"
    return (
        f"the POTCAR of {symbol} ({functional}) is not in PMG_VASP_PSP_DIR; put it at "
        f"{place}/POTCAR.{symbol}.gz or {place}/{symbol}/POTCAR"
    )
