"""VASP: settings, level of theory, and the inputs of a frame; `vasp_results` reads what it gave.

Conventions of VASP that are undone here and there, so that nothing of them is seen outside:

- atoms are grouped by species, in the order of the POTCAR; results come back in the frame's order;
- a left-handed cell is refused by VASP, so the mirror image through the origin is calculated:
  energy and virial are the same, positions and forces change their sign;
- the stress in vasprun.xml, in kB, is positive where the cell wants to expand, so the virial is
  stress times volume (ASE's stress has the other sign);
- the energy is ``e_fr_energy``, the free energy TOTEN, because the forces derive from it (VASP
  wiki, "ISMEAR"); the energy extrapolated to σ → 0 does not fit the forces.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ionloop.codes.acceptance import AcceptanceLimits, Calculated
from ionloop.codes.conversions import to_pymatgen
from ionloop.codes.dynamics import MolecularDynamics
from ionloop.codes.errors import OtherLevelError
from ionloop.codes.program import Command
from ionloop.codes.vasp_presets import FORCE_LABELS, PRESETS
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
    times,
    words,
)
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.packed import Array
from ionloop.schemas.units import Force

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure
    from pymatgen.io.vasp.inputs import PotcarSingle, VaspInput
    from pymatgen.io.vasp.sets import VaspInputSet

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

_FREE_BY_PURPOSE = (
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
ELECTRONIC = frozenset(" ".join(_FREE_BY_PURPOSE[:2]).split())
"""INCAR tags of the way of the electronic steps: whether they converge hangs on them."""

FREE = frozenset(tag for tags in _FREE_BY_PURPOSE for tag in tags.split())
"""INCAR tags that decide how a result is reached, how fast, or what is written, not its value."""

RESCUES = frozenset({"NBANDS"})
"""Tags that decide a value where they are asked for, and may be added where they are not.

Too few bands make another energy, so NBANDS is in the key; custodian gives more than VASP's own
number, with which a converged result is the same.
"""


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


def incar(settings: VaspSettings, **changes: Any) -> dict[str, Any]:
    """Return the INCAR tags of a force label, with changes for another kind of run."""
    spacing = kpoints(settings)
    mesh = {"KSPACING": spacing, "KGAMMA": True} if isinstance(spacing, float | int) else {}
    tags = {**FORCE_LABELS, "ENCUT": cutoff(settings), **mesh, **settings.incar, **changes}
    return {tag: value for tag, value in tags.items() if value is not None}


def plain_tags(settings: VaspSettings, **changes: Any) -> dict[str, Any]:
    """Return the INCAR tags that are one value, not one for every species or atom."""
    tags = incar(settings, **changes)
    return {tag: value for tag, value in tags.items() if not isinstance(value, dict | list)}


def effort(settings: VaspSettings) -> dict[str, Any]:
    """Return what a rejected calculation hangs on, outside the level of theory.

    The way of the electronic steps (NELM, ALGO, mixing), and how often custodian may correct it.
    """
    tags = {tag: plain(value) for tag, value in incar(settings).items() if tag in ELECTRONIC}
    return {**tags, "max_errors": settings.max_errors}


def relaxation(settings: VaspSettings) -> dict[str, Any]:
    """Return the INCAR changes that relax positions and cell (conjugate gradients)."""
    return {
        "IBRION": 2,
        "ISIF": 3,
        "NSW": settings.relax_steps,
        "EDIFFG": -settings.relax_fmax,
    }


def dynamics(run: MolecularDynamics) -> dict[str, Any]:
    """Return the INCAR changes that run molecular dynamics in the NVT ensemble (Nosé-Hoover)."""
    return {
        "IBRION": 0,
        "ISIF": 2,
        "MDALGO": 2,
        "SMASS": 0,
        "NSW": run.steps,
        "POTIM": run.timestep,
        "TEBEG": run.temperature,
        "TEEND": run.temperature,
    }


def level_of_theory(settings: VaspSettings) -> LevelOfTheory:
    """Describe everything that decides a label's value, without starting VASP.

    Tags that decide only how a result is reached (`FREE`), the command and the limits are left
    out. Two ways of writing one level, as a preset or in full, are one level, and so are two
    names of one POTCAR: its title and content count. Where the settings do not say what the
    POTCARs are, those of this host are read. An element whose POTCAR is not known either way is
    named by its POTCAR's name; no label of it is bought (`check_known`).
    """
    tags = deciding(incar(settings))
    for tag in ("ENCUT", "KSPACING", "KGAMMA"):
        tags.pop(tag, None)
    known = pinned(settings).potentials or {}
    points = kpoints(settings)
    # Moments and Hubbard parameters are said by symbol, and count for the frames that hold it.
    by_element = {tag: table for tag, table in tags.items() if _is_by_element(settings, table)}
    return LevelOfTheory(
        code="vasp",
        settings={
            "version": settings.version,
            "ENCUT": plain(cutoff(settings)),
            "k-points": words(points),
            **{tag: tags[tag] for tag in sorted(tags.keys() - by_element)},
        },
        elements={
            element: (
                known[element].model_dump()
                if element in known
                else {"POTCAR": f"{settings.potcar_functional} {symbol}"}
            )
            | {tag: table[element] for tag, table in by_element.items() if element in table}
            for element, symbol in potcars(settings).items()
        },
        start_cells=points.start_cells if isinstance(points, Kept) else [],
    )


def _is_by_element(settings: VaspSettings, value: Any) -> bool:
    """Tell whether the value of a tag is a table of numbers by chemical symbol."""
    if not isinstance(value, Mapping) or not value.keys() <= potcars(settings).keys():
        return False
    return not any(isinstance(each, Mapping) for each in value.values())


def doubtful_keys(settings: VaspSettings) -> list[str]:
    """Return the hash under which version 0.1 kept labels that may be of this level.

    It held the POTCARs' names alone, of all elements of the settings, and not VASP's version; and
    no label of that time says what it was calculated with. So nothing proves that they are of
    this level, and nothing that they are not.
    """
    spacing = kpoints(settings)
    if not isinstance(spacing, str | float | int):
        return []  # another mesh than Γ alone or a spacing was not to be had
    free = FREE | {"ISYM", "SYMPREC", "NBANDS", "LDIAG"}
    tags = {tag: value for tag, value in incar(settings).items() if tag not in free}
    for tag in ("ENCUT", "KSPACING", "KGAMMA"):
        tags.pop(tag, None)
    names = [settings.potcar_functional, *sorted(potcars(settings).values())]
    content = {
        "ENCUT": plain(cutoff(settings)),
        "k-points": "Γ" if isinstance(spacing, str) else f"spacing {spacing:g} 1/Å",
        "POTCAR": " ".join(names),
        **{tag: plain(tags[tag]) for tag in sorted(tags)},
    }
    return [LevelOfTheory(code="vasp", settings=content).hash]


def deciding(tags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the INCAR tags that decide the value of a converged result, each in one form.

    Without symmetry (ISYM at 0 or below) it does not matter how exactly symmetry is looked for.
    """
    kept = {tag: plain(value) for tag, value in tags.items() if tag not in FREE}
    if isinstance(kept.get("ISYM"), int) and kept["ISYM"] <= 0:
        kept["ISYM"] = 0
        kept.pop("SYMPREC", None)
    return kept


def plain(value: Any) -> Any:
    """Return one form of a value that INCAR can say in several, such as 500 and 500.0."""
    if isinstance(value, str):
        word = value.strip()
        return word.upper() if len(word) <= 2 else word.capitalize()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@dataclass(frozen=True)
class Arrangement:
    """How a frame is handed to VASP: atoms grouped by species, the cell right-handed.

    Parameters
    ----------
    order
        Index in the frame of each atom of the POSCAR, (n,).
    hand
        1, or -1 where the frame is mirrored through the origin.
    """

    order: Array
    hand: int

    @classmethod
    def of(cls, frame: Frames) -> Self:
        """Work out the arrangement of a frame."""
        species = list(dict.fromkeys(frame.symbols))
        order = np.argsort([species.index(symbol) for symbol in frame.symbols], kind="stable")
        return cls(order, 1 if np.linalg.det(frame.cells[0]) > 0 else -1)

    def arrange(self, frame: Frames) -> Frames:
        """Return the frame as VASP gets it."""
        return Frames(
            tuple(frame.symbols[index] for index in self.order),
            self.hand * frame.positions[:, self.order],
            self.hand * frame.cells,
        )

    def restore_frame(self, frame: Frames) -> Frames:
        """Return frames that VASP gave as those of the frame itself."""
        back = np.argsort(self.order)
        return Frames(
            tuple(frame.symbols[index] for index in back),
            self.hand * frame.positions[:, back],
            self.hand * frame.cells,
        )

    def restore(self, result: Calculated) -> Calculated:
        """Return a result of the arranged frame as one of the frame itself."""
        back = np.argsort(self.order)
        return replace(
            result,
            forces=self.hand * result.forces[back],
            positions=None if result.positions is None else self.hand * result.positions[back],
            cell=None if result.cell is None else self.hand * result.cell,
        )


def input_set(settings: VaspSettings, **changes: Any) -> VaspInputSet:
    """Return pymatgen's input set, which holds these settings and no default of its own.

    Parameters
    ----------
    settings
        The level of theory; where meshes are kept, that `of_frame`.
    **changes
        INCAR tags of another kind of run, such as `relaxation` returns them.
    """
    from pymatgen.io.vasp.inputs import Kpoints
    from pymatgen.io.vasp.sets import VaspInputSet

    symbols = potcars(settings)
    points = explicit(kpoints(settings))
    mesh: Any = Kpoints.gamma_automatic(points) if points else {}
    with _quiet():
        return VaspInputSet(
            config_dict={
                "INCAR": {},
                "POTCAR": symbols,
                "POTCAR_FUNCTIONAL": settings.potcar_functional,
            },
            # As the user's, no tag is dropped or replaced.
            user_incar_settings=incar(settings, **changes),
            user_kpoints_settings=mesh,
            # pymatgen replaces W by W_sv in PBE_54 unless told twice.
            user_potcar_settings={"W": symbols["W"]} if "W" in symbols else {},
            sort_structure=False,
            validate_magmom=False,
        )


def requested_inputs(settings: VaspSettings, frame: Frames, **changes: Any) -> VaspInput:
    """Return the inputs of a frame, with the names of the POTCARs instead of their content.

    Raises
    ------
    ValueError
        If `frame` is not one frame, or an element has no POTCAR in the settings.
    """
    check_elements(settings, frame.symbols)
    with _quiet():
        inputs = input_set(of_frame(settings, frame), **changes)
        return inputs.get_input_set(to_structure(frame), potcar_spec=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what pymatgen says about settings that were chosen on purpose."""
    from pymatgen.io.vasp.sets import BadInputSetWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadInputSetWarning)
        yield


def to_structure(frame: Frames) -> Structure:
    """Return the pymatgen Structure of a frame as VASP gets it, grouped and right-handed.

    Raises
    ------
    ValueError
        If `frame` is not one frame.
    """
    if len(frame) != 1:
        raise ValueError(f"VASP takes one frame, got {len(frame)}")
    structure = to_pymatgen(Arrangement.of(frame).arrange(frame))[0]
    structure.remove_site_property("positions")
    return structure


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


def pinned(settings: VaspSettings) -> VaspSettings:
    """Return settings that say what each POTCAR is: read on this host, unless they say already.

    Elements whose POTCAR is not here are left out, and stay out: a Maker that travels buys
    labels of the level that it had where it was made.
    """
    if settings.potentials is not None:
        return settings
    found = {}
    for element, symbol in potcars(settings).items():
        with suppress(MissingPotcarError, ValueError):
            found[element] = find_potential(symbol, settings.potcar_functional).identity
    return settings.model_copy(update={"potentials": found})


def check_known(settings: VaspSettings, elements: Sequence[str]) -> None:
    """Raise if it is not known which POTCAR the labels of some element would be of.

    Raises
    ------
    MissingPotcarError
        Naming the element and the cure.
    ValueError
        If an element has no POTCAR in the settings.
    """
    check_elements(settings, elements)
    known = pinned(settings).potentials or {}
    for element in dict.fromkeys(elements):
        if element not in known:
            symbol = potcars(settings)[element]
            raise MissingPotcarError(
                f"which POTCAR the labels of {element} are of is not known: "
                f"{_unknown(settings, symbol)}; or say it in label.potentials, which `ionloop "
                "check` prints on a host that has the POTCARs"
            )


def _unknown(settings: VaspSettings, symbol: str) -> str:
    if settings.potentials is None:
        try:
            find_potential(symbol, settings.potcar_functional)
        except (MissingPotcarError, ValueError) as problem:
            return str(problem)
    return f"neither label.potentials says it, nor was {symbol} where the run was made"


def check_potcars(settings: VaspSettings, elements: Sequence[str]) -> None:
    """Raise if this host's POTCARs are not those of the level of theory.

    Raises
    ------
    OtherLevelError
        Naming both and the cure.
    MissingPotcarError
        If a POTCAR is not here, or it is not known which one is meant.
    ValueError
        If an element has no POTCAR in the settings.
    """
    check_known(settings, elements)
    known = pinned(settings).potentials or {}
    for element in dict.fromkeys(elements):
        symbol = potcars(settings)[element]
        here = find_potential(symbol, settings.potcar_functional).identity
        if here != known[element]:
            raise OtherLevelError(
                f"the POTCAR of {symbol} ({settings.potcar_functional}) of this host is "
                f"{here.words}; the labels are of {known[element].words}: {SAME_POTCAR}"
            )


SAME_POTCAR = (
    "let PMG_VASP_PSP_DIR name the same release on every host, or say in label.potentials which "
    "one is meant"
)


def identify(potcar: PotcarSingle) -> PotcarIdentity:
    """Return what a POTCAR is.

    Neither white space counts nor the lines of later releases that give a hash and a copyright.
    """
    lines = (" ".join(line.split()) for line in potcar.data.strip().splitlines())
    content = "\n".join(line for line in lines if not line.startswith(NOTES))
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return PotcarIdentity(title=" ".join(potcar.TITEL.split()), sha256=digest)


NOTES = ("SHA256", "COPYR")
"""Beginnings of lines that say something about a POTCAR and are no part of the potential."""


@dataclass(frozen=True)
class Potential:
    """What the header of a POTCAR says.

    Parameters
    ----------
    symbol
        Its name, such as Li_sv.
    identity
        Its TITEL and the hash of its content.
    valence
        Valence electrons.
    enmax
        Recommended cut-off in eV.
    known
        Whether pymatgen knows its content, so that it is whole and of the release it should be.
    """

    symbol: str
    identity: PotcarIdentity
    valence: float
    enmax: float
    known: bool


def find_potential(symbol: str, functional: str) -> Potential:
    """Look for a POTCAR where pymatgen looks for it.

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
        raise ValueError(f"there is no potcar_functional {functional!r}; known: {known}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            single = PotcarSingle.from_symbol_and_functional(symbol, functional)
    except (OSError, ValueError) as problem:
        raise MissingPotcarError(_potcar_sentence(symbol, functional)) from problem
    except (LookupError, AttributeError) as problem:  # what pymatgen looks for is not in it
        raise MissingPotcarError(
            f"the POTCAR of {symbol} ({functional}) cannot be read, it may be cut short"
        ) from problem
    return Potential(symbol, identify(single), single.zval, single.enmax, single.is_valid)


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


def in_words(settings: VaspSettings, elements: Sequence[str]) -> dict[str, str]:
    """Return INCAR, KPOINTS and POTCAR.spec of a label in one line each.

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
