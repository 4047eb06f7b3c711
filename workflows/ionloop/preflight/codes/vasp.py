"""VASP: whether it can be started, its inputs and POTCARs, and its speed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from os.path import expandvars
from shutil import which

from ionloop.codes.vasp import level, potcars, presets
from ionloop.codes.vasp.potcars import MissingPotcarError
from ionloop.preflight.codes.base import dynamics_seconds, label_seconds, look_at_code
from ionloop.preflight.findings import Finding, error, ok, sentence_of, warning
from ionloop.programs.errors import MissingExtraError
from ionloop.runfile.sections.vasp import VaspSection


@look_at_code.register(VaspSection)
def _look_at_vasp(section: VaspSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Look for atomate2, VASP and the POTCARs; show INCAR, KPOINTS and POTCAR.spec."""
    yield from _look_for_programs(section)
    try:
        inputs = level.in_words(section, elements)
    except ValueError as problem:
        yield error("label.potcars", sentence_of(problem))
        return
    for name, content in inputs.items():
        yield ok("label", f"{name}: {content}")
    yield _identities(section, elements)
    for element in elements:
        yield from _look_at_potcar(section, element)


def _look_for_programs(section: VaspSection) -> Iterator[Finding]:
    if find_spec("atomate2") is None:
        missing = MissingExtraError("atomate2", "vasp", "labelling with VASP")
        yield error("label.code", sentence_of(missing))
    for command in filter(None, (section.vasp_cmd, section.vasp_gamma_cmd)):
        first = [*shlex.split(expandvars(command)), ""][0]
        if which(first) is None:
            cure = "load its module, or say in label.vasp_cmd how VASP is started"
            yield error("label.vasp_cmd", f"{first} is not on PATH", cure)
        else:
            yield ok("label.vasp_cmd", f"VASP is started by: {command}")


def _identities(section: VaspSection, elements: Sequence[str]) -> Finding:
    """Say which POTCARs the labels are of, as the run file would."""
    try:
        known = potcars.check_known(section, elements)
    except (MissingPotcarError, ValueError) as problem:
        return error("label.potcars", sentence_of(problem))
    said = (f"{each}: {{{known[each].yaml}}}" for each in elements)
    return ok("label.potentials", f"the labels are of {{{', '.join(said)}}}")


def _look_at_potcar(section: VaspSection, element: str) -> Iterator[Finding]:
    symbol, expected = presets.potcars(section)[element], presets.valence(section, element)
    said = section.potentials or {}
    try:
        potential = potcars.find_potential(symbol, section.potcar_functional)
    except (MissingPotcarError, ValueError):
        if element in said:
            sentence = f"the POTCAR of {symbol} is not on this host, so it is not looked into"
            yield ok("label.potcars", sentence)
        return
    known = said.get(element, potential.identity)
    if known != potential.identity:
        sentence = (
            f"the POTCAR of {symbol} of this host is {potential.identity.words}; the labels "
            f"are of {known.words}"
        )
        yield warning("label.potentials", sentence, potcars.SAME_POTCAR)
    has = f"the POTCAR of {symbol} ({potential.identity.title})"
    if expected is not None and potential.valence != expected:
        sentence = f"{has} has {potential.valence:g} valence electrons, not {expected}"
        yield error("label.potcars", sentence, "name another POTCAR, or another preset")
    if potential.enmax > (cutoff := presets.cutoff(section)):
        sentence = f"{has} recommends a cut-off of {potential.enmax:g} eV (ENMAX)"
        yield warning("label.encut", sentence, f"{cutoff:g} eV is too low for it")
    if not potential.known:
        sentence = f"{has} is none of those that pymatgen knows"
        yield warning("label.potcars", sentence, "see whether the file is whole")


@dynamics_seconds.register(VaspSection)
def _vasp_step_seconds(section: VaspSection, n_atoms: int) -> float:
    """Estimate the core seconds of one step of AIMD, which has a wave function to start from.

    For 200 atoms of LGPS it took 2,495 at Γ and 500 eV (Miyagawa 2024, table S1).
    """
    size: float = (n_atoms / 200) ** 2.5 * (presets.cutoff(section) / 500) ** 1.5
    return 2495 * size


@label_seconds.register(VaspSection)
def _vasp_label_seconds(section: VaspSection, n_atoms: int) -> float:
    """Estimate the core seconds of one label: two steps of AIMD, as it has no start."""
    return 2 * _vasp_step_seconds(section, n_atoms)
