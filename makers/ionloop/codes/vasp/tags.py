"""INCAR tags: which ones decide the value of a label, and which ones a user may not set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
"""INCAR tags that a user may not set, and why."""


GROUND_STATES = ("Normal", "Fast", "Veryfast", "All", "Conjugate", "Damped")
"""Values of ALGO that end in the self-consistent ground state, as `plain` writes them."""


SELF_CONSISTENT = (0, 1, 2)
"""Values of ICHARG with a self-consistent charge density; from 10 on it stays as it began."""


_FREE_BY_PURPOSE = (
    # how the electronic steps proceed, and where they start
    "ALGO NELM NELMIN NELMDL ISTART ICHARG INIWAV LSUBROT ISEARCH TIME WEIMIN",
    "AMIX BMIX AMIN AMIX_MAG BMIX_MAG IMIX INIMIX MAXMIX MIXPRE MREMOVE WC LMAXMIX",
    # how the ions move: their positions are compared with the request
    "NSW IBRION ISIF POTIM EDIFFG NFREE SMASS TEBEG TEEND MDALGO LANGEVIN_GAMMA NBLOCK KBLOCK",
    # where it is computed
    "NCORE NPAR KPAR NSIM LPLANE LSCALU LSCALAPACK LASYNC",
    # what is written
    "LWAVE LCHARG LVTOT LVHAR LAECHG LELF LORBIT NWRITE NEDOS EMIN EMAX SYSTEM LH5",
)

FREE = frozenset(" ".join(_FREE_BY_PURPOSE).split())
"""INCAR tags that decide how a result is reached or what is written, but not its value."""


ELECTRONIC = frozenset(" ".join(_FREE_BY_PURPOSE[:2]).split())
"""INCAR tags of the electronic steps, which decide whether they converge."""


RESCUES = frozenset({"NBANDS"})
"""Tags that decide a value if the user sets them, and that custodian may add if he does not.

Too few bands change the energy, so NBANDS is in the key. custodian only adds bands to VASP's own
number, which does not change a converged result.
"""


def refusals(tags: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each INCAR tag of a user with which the result would be no label."""
    for tag, why in OURS.items():
        if tag in tags:
            yield f"{tag} is not set there: {why}"
    yield from no_ground_state(tags)


def no_ground_state(tags: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each INCAR tag that prevents the self-consistent ground state."""
    algorithm, charge = tags.get("ALGO"), tags.get("ICHARG")
    initials = {name[0] for name in GROUND_STATES}
    if algorithm is not None and plain(str(algorithm)) not in {*GROUND_STATES, *initials}:
        yield (
            f"ALGO = {algorithm} does not end in the self-consistent ground state; known: "
            f"{', '.join(GROUND_STATES)}"
        )
    if charge is not None and charge not in SELF_CONSISTENT:
        yield f"ICHARG = {charge} is not self-consistent; known: 0, 1, 2"


def deciding(tags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the INCAR tags that decide the value of a converged result, in one notation each.

    Without symmetry (ISYM at 0 or below) the tolerance of the symmetry search does not matter.
    """
    kept = {tag: plain(value) for tag, value in tags.items() if tag not in FREE}
    if isinstance(kept.get("ISYM"), int) and kept["ISYM"] <= 0:
        kept["ISYM"] = 0
        kept.pop("SYMPREC", None)
    return kept


def plain(value: Any) -> Any:
    """Return a value in one notation, where INCAR has several, such as 500 and 500.0."""
    if isinstance(value, str):
        word = value.strip()
        return word.upper() if len(word) <= 2 else word.capitalize()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
