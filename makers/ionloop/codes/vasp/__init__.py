"""VASP, through atomate2 and custodian."""

from __future__ import annotations

from ionloop.codes.vasp.inputs import (
    dynamics,
    effort,
    incar,
    input_set,
    relaxation,
    requested_inputs,
    to_structure,
)
from ionloop.codes.vasp.level import doubtful_keys, in_words, level_of_theory
from ionloop.codes.vasp.potcars import (
    SAME_POTCAR,
    MissingPotcarError,
    check_known,
    check_potcars,
    find_potential,
    pinned,
)
from ionloop.codes.vasp.presets import cutoff, kpoints, of_frame, potcars, valence
from ionloop.codes.vasp.settings import VaspSettings

__all__ = [
    "SAME_POTCAR",
    "MissingPotcarError",
    "VaspSettings",
    "check_known",
    "check_potcars",
    "cutoff",
    "doubtful_keys",
    "dynamics",
    "effort",
    "find_potential",
    "in_words",
    "incar",
    "input_set",
    "kpoints",
    "level_of_theory",
    "of_frame",
    "pinned",
    "potcars",
    "relaxation",
    "requested_inputs",
    "to_structure",
    "valence",
]
