"""Which section class belongs to a `code`: the table of ionloop's own, or an import path.

To add a code to ionloop, write its section class in this folder and enter it in `CODES`. A class
of your own needs no entry: say ``code: "package.module:SectionClass"`` in the run file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from ionloop.runfile.errors import refused
from ionloop.runfile.sections.ase import AseSection
from ionloop.runfile.sections.base import CodeSection, ExploreSection, LabelSection, TrainSection
from ionloop.runfile.sections.chgnet import ChgnetSection
from ionloop.runfile.sections.cp2k import Cp2kSection
from ionloop.runfile.sections.deepmd import DeepmdSection
from ionloop.runfile.sections.dpa import DpaSection
from ionloop.runfile.sections.external import ExternalSection
from ionloop.runfile.sections.forcefield import ForceFieldSection
from ionloop.runfile.sections.gpaw import GpawSection
from ionloop.runfile.sections.lammps import LammpsSection
from ionloop.runfile.sections.mace import MaceSection
from ionloop.runfile.sections.sevennet import SevennetSection
from ionloop.runfile.sections.vasp import VaspSection

CODES: Mapping[str, Mapping[str, type[CodeSection]]] = {
    "label": {
        "forcefield": ForceFieldSection,
        "gpaw": GpawSection,
        "cp2k": Cp2kSection,
        "vasp": VaspSection,
        "external": ExternalSection,
    },
    "train": {
        "deepmd": DeepmdSection,
        "dpa": DpaSection,
        "sevennet": SevennetSection,
        "chgnet": ChgnetSection,
        "mace": MaceSection,
    },
    "explore": {"lammps": LammpsSection, "ase": AseSection},
}

_ROLES: Mapping[str, type[CodeSection]] = {
    "label": LabelSection,
    "train": TrainSection,
    "explore": ExploreSection,
}


def section_type(role: str, value: Any) -> type[CodeSection]:
    """Return the class of a section from its `code`; the first of its role if none is named.

    Parameters
    ----------
    role
        "label", "train" or "explore".
    value
        The content of the section.

    Raises
    ------
    ValidationError
        If the role has no code of that name, or the import path leads to no section class; the
        message says what could be named instead.
    """
    known = CODES[role]
    code = value.get("code") if isinstance(value, Mapping) else None
    name = str(code) if code else next(iter(known))
    if name in known:
        return known[name]
    if ":" in name:
        return _imported(role, code)
    raise refused(("code",), f"unknown code; known: {', '.join(known)}", code)


def _imported(role: str, code: Any) -> type[CodeSection]:
    try:
        found = resolve_name(str(code))
    except Exception as problem:  # a user's module may raise anything
        message = (
            f"cannot be imported ({problem}); give package.module:SectionClass, and see that "
            "PYTHONPATH has its folder"
        )
        raise refused(("code",), message, code) from problem
    wanted = _ROLES[role]
    if not (isinstance(found, type) and issubclass(found, wanted)):
        message = f"is no {wanted.__name__}; derive the class from it"
        raise refused(("code",), message, code)
    return found


def _section(role: str) -> BeforeValidator:
    def choose(value: Any) -> Any:
        if isinstance(value, CodeSection):
            return value
        return section_type(role, value).model_validate(value)

    return BeforeValidator(choose)


AnyLabelSection = Annotated[SerializeAsAny[LabelSection], _section("label")]

AnyTrainSection = Annotated[SerializeAsAny[TrainSection], _section("train")]

AnyExploreSection = Annotated[SerializeAsAny[ExploreSection], _section("explore")]
