"""Settings of VASP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ionloop.codes.common.acceptance import AcceptanceLimits
from ionloop.codes.vasp.presets import PRESETS
from ionloop.programs.environment import Command
from ionloop.schemas.document import Model
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import (
    DEFAULT_SPACING,
    GAMMA,
    MEANING,
    Kept,
    KPoints,
    explicit,
    mesh_of,
)
from ionloop.schemas.units import Force

OURS = {
    "ENCUT": "say encut",
    "KSPACING": "say kpoints",
    "KGAMMA": "k-points are centred on Γ",
    "NSW": "a label is one ionic step",
    "IBRION": "a label is one ionic step",
    "ISIF": "a label has a stress",
    "PSTRESS": "a label is an energy, not an enthalpy",
    "IALGO": "say ALGO",
    "LSCAAWARE": "it is for ALGO = Exact, which gives no label",
    "SCALEE": "a label is of the atoms as they are, not of scaled ones",
    "IMAGES": "a label is one frame, not a path",
    "ML_LMLFF": "a label is from DFT, not from a force field that VASP learns",
}
"""INCAR tags that are not for `incar`, and why."""


GROUND_STATES = ("Normal", "Fast", "Veryfast", "All", "Conjugate", "Damped")
"""Values of ALGO that end in the self-consistent ground state, as `plain` writes them."""


SELF_CONSISTENT = (0, 1, 2)
"""Values of ICHARG that let the charge density go its way; from 10 on it is kept as it began."""


FREE_BY_PURPOSE = (
    # the way of the electronic steps, and where they start
    "ALGO NELM NELMIN NELMDL ISTART ICHARG INIWAV LSUBROT ISEARCH TIME WEIMIN",
    "AMIX BMIX AMIN AMIX_MAG BMIX_MAG IMIX INIMIX MAXMIX MIXPRE MREMOVE WC LMAXMIX",
    # the way of the ions: where they end up is checked against the request
    "NSW IBRION ISIF POTIM EDIFFG NFREE SMASS TEBEG TEEND MDALGO LANGEVIN_GAMMA NBLOCK KBLOCK",
    # where it is computed
    "NCORE NPAR KPAR NSIM LPLANE LSCALU LSCALAPACK LASYNC",
    # what is written
    "LWAVE LCHARG LVTOT LVHAR LAECHG LELF LORBIT NWRITE NEDOS EMIN EMAX SYSTEM LH5",
)

ELECTRONIC = frozenset(" ".join(FREE_BY_PURPOSE[:2]).split())
"""INCAR tags of the way of the electronic steps: whether they converge hangs on them."""


class MissingPotcarError(IonloopError, FileNotFoundError):
    """A POTCAR is not where pymatgen looks for it, or was not where the Maker was made."""


class PotcarIdentity(Model):
    """What a POTCAR is, whatever the folder and the file are called."""

    title: str = Field(description="its TITEL, with the date, such as PAW_PBE Li_sv 10Sep2004")
    sha256: str = Field(
        pattern="^[0-9a-f]{12}$",
        description="first twelve hexadecimal digits of the sha256 of its content",
    )

    @property
    def words(self) -> str:
        """Title and hash."""
        return f"{self.title}, sha256 {self.sha256}"

    @property
    def yaml(self) -> str:
        """Title and hash as the run file says them; the hash in quotes, as it may be a number."""
        return f"title: {self.title}, sha256: '{self.sha256}'"


class VaspSettings(Model):
    """A level of theory of VASP, how to start VASP, and the limits on its labels."""

    preset: str | None = Field(
        None, description=f"named settings to start from: {', '.join(PRESETS)}; see docs/vasp.md"
    )
    encut: PositiveFloat | None = Field(
        None, description="plane-wave cut-off in eV; none: the preset's"
    )
    kpoints: KPoints | None = Field(
        None, description=f"{MEANING}; none: the preset's, or {DEFAULT_SPACING} 1/Å without one"
    )
    potcar_functional: str = Field(
        "PBE_54", description="release of the POTCARs in the words of pymatgen: PBE_54, PBE_64, …"
    )
    potcars: dict[str, str] = Field(
        default_factory=dict,
        description="POTCAR of each element, such as {Li: Li_sv}; those of the preset otherwise",
    )
    potentials: dict[str, PotcarIdentity] | None = Field(
        None,
        description="what the POTCAR of each element is, such as {Li: {title: PAW_PBE Li_sv "
        "10Sep2004, sha256: …}}, for a submitting host without POTCARs; `ionloop check` prints it "
        "where they are; none: read from the POTCARs of this host",
    )
    version: str = Field(
        "6", description="VASP's version as far as labels depend on it; another one is refused"
    )
    incar: dict[str, Any] = Field(
        default_factory=dict,
        description="INCAR tags that replace those of a force label; null removes one",
    )
    vasp_cmd: Command = Field(
        "vasp_std",
        description="command that starts VASP, such as mpirun -np {cores} vasp_std; '{cores}' "
        "stands for `cores`",
    )
    vasp_gamma_cmd: Command | None = Field(
        None, description="command for runs with the Γ point alone; none: vasp_cmd"
    )
    max_errors: PositiveInt = Field(
        5, description="times that custodian may correct and restart one calculation"
    )
    frozen_after: PositiveFloat = Field(
        21_600.0, description="time in s without output after which a calculation counts as hung"
    )
    limits: AcceptanceLimits = Field(
        AcceptanceLimits(), description="limits beyond which a label is rejected"
    )
    relax_fmax: Annotated[Force, Field(gt=0)] = Field(
        0.01, description="largest force at the end of a relaxation, eV/Å"
    )
    relax_steps: PositiveInt = Field(200, description="most ionic steps of a relaxation")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"there is no preset {self.preset!r}; known: {', '.join(PRESETS)}")
        if self.preset is None and self.encut is None:
            raise ValueError("without a preset, say encut")
        if self.incar.get("ISMEAR", 0) < -3 and explicit(kpoints(self)) == GAMMA:
            raise ValueError("incar: the tetrahedron method (ISMEAR) needs more than the Γ point")
        for tag in self.incar:
            if tag != tag.upper():
                raise ValueError(f"incar: write {tag.upper()}, not {tag}")
        if objections := list(refusals(self.incar)):
            raise ValueError(f"incar: {'; '.join(objections)}")
        return self


def refusals(tags: Mapping[str, Any]) -> Iterator[str]:
    """Say which INCAR tags of a user would make the result something else than a label."""
    for tag, why in OURS.items():
        if tag in tags:
            yield f"{tag} is not set there: {why}"
    yield from no_ground_state(tags)


def no_ground_state(tags: Mapping[str, Any]) -> Iterator[str]:
    """Say which INCAR tags keep a run from the self-consistent ground state."""
    algorithm, charge = tags.get("ALGO"), tags.get("ICHARG")
    initials = {name[0] for name in GROUND_STATES}
    if algorithm is not None and plain(str(algorithm)) not in {*GROUND_STATES, *initials}:
        yield (
            f"ALGO = {algorithm} does not end in the self-consistent ground state; known: "
            f"{', '.join(GROUND_STATES)}"
        )
    if charge is not None and charge not in SELF_CONSISTENT:
        yield f"ICHARG = {charge} is not self-consistent; known: 0, 1, 2"


def cutoff(settings: VaspSettings) -> float:
    """Return the plane-wave cut-off in eV."""
    return settings.encut if settings.encut is not None else PRESETS[str(settings.preset)].encut


def kpoints(settings: VaspSettings) -> KPoints:
    """Return the k-points: those of the settings, of their preset, or the default spacing."""
    if settings.kpoints is not None:
        return settings.kpoints
    return PRESETS[settings.preset].kpoints if settings.preset else DEFAULT_SPACING


def of_frame(settings: VaspSettings, frame: Frames) -> VaspSettings:
    """Return settings that say the mesh of a frame, where it is kept from its start cell."""
    if not isinstance(kpoints(settings), Kept):
        return settings
    return settings.model_copy(update={"kpoints": mesh_of(kpoints(settings), frame)})


def potcars(settings: VaspSettings) -> dict[str, str]:
    """Return the POTCAR of each element."""
    preset = PRESETS[settings.preset].potcars if settings.preset else {}
    return {**preset, **settings.potcars}


def valence(settings: VaspSettings, element: str) -> int | None:
    """Return the valence electrons that the preset wants of a POTCAR, None where it is silent."""
    preset = PRESETS[settings.preset] if settings.preset else None
    return preset.valences.get(element) if preset and element not in settings.potcars else None


def plain(value: Any) -> Any:
    """Return one form of a value that INCAR can say in several, such as 500 and 500.0."""
    if isinstance(value, str):
        word = value.strip()
        return word.upper() if len(word) <= 2 else word.capitalize()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def check_elements(settings: VaspSettings, elements: Sequence[str]) -> None:
    """Raise if an element has no POTCAR in the settings.

    Raises
    ------
    ValueError
        Naming the elements and the cure.
    """
    missing = [symbol for symbol in dict.fromkeys(elements) if symbol not in potcars(settings)]
    if missing:
        raise ValueError(
            f"no POTCAR is named for {', '.join(missing)}; say which one, such as "
            f"potcars: {{{missing[0]}: {missing[0]}}}"
        )
