"""GPAW and CP2K: whether the program answers, what it lacks, and its speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from tempfile import TemporaryDirectory

from ionloop.codes.common.errors import OtherLevelError
from ionloop.codes.cp2k import calculation as cp2k
from ionloop.codes.cp2k.data import missing_kinds
from ionloop.codes.gpaw import calculation as gpaw
from ionloop.preflight.codes.base import label_seconds, level_finding, look_at_code
from ionloop.preflight.findings import Finding, error, ok, sentence_of
from ionloop.programs.process import ProgramError
from ionloop.runfile.sections.base import DftSection
from ionloop.runfile.sections.cp2k import Cp2kSection
from ionloop.runfile.sections.gpaw import GpawSection
from ionloop.schemas.kpoints import n_points


@look_at_code.register(DftSection)
def _look_at_dft(section: DftSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Start the program for its version, and look for what it needs for each element."""
    try:
        yield from look_at_program(section, elements)
    except (ProgramError, OtherLevelError, FileNotFoundError) as problem:
        yield error("label.command", sentence_of(problem))
        return
    yield level_finding(section)


@singledispatch
def look_at_program(section: DftSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Start the program and say what it lacks.

    Parameters
    ----------
    section
        The section `label` of the run file.
    elements
        Chemical symbols of structures and data.

    Raises
    ------
    ProgramError, OtherLevelError, ProgramNotFoundError, FileNotFoundError
        If it does not answer.
    """
    yield from ()


@look_at_program.register(GpawSection)
def _look_at_gpaw(section: GpawSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Start GPAW and say which setups it lacks."""
    with TemporaryDirectory() as folder:
        answer = gpaw.probe(section, elements, Path(folder), section.cores)
    version, ranks = answer["version"], answer["ranks"]
    yield ok("label.command", f"GPAW {version} labels, on {ranks} MPI rank(s) a frame")
    yield _there("label.setups", {"setup": answer["missing"]}, elements)


@look_at_program.register(Cp2kSection)
def _look_at_cp2k(section: Cp2kSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Start CP2K and say which basis sets and pseudopotentials its data folder lacks."""
    version, data = cp2k.probe(section, section.cores)
    yield ok("label.command", f"CP2K {version} labels, on {section.cores} MPI rank(s) a frame")
    yield _there("label.kinds", missing_kinds(section, elements, data), elements)


@label_seconds.register(GpawSection)
def _gpaw_seconds(section: GpawSection, n_atoms: int) -> float:
    """Estimate the core seconds of one label: 48 for 50 atoms of LGPS at Γ and 400 eV."""
    size: float = (n_atoms / 50) ** 2.5 * (section.cutoff / 400) ** 1.5
    return 48 * size * n_points(section.kpoints, n_atoms)


@label_seconds.register(Cp2kSection)
def _cp2k_seconds(section: Cp2kSection, n_atoms: int) -> float:
    """Estimate the core seconds of one label: 214 for 50 atoms of LGPS at Γ."""
    return 214 * (n_atoms / 50) ** 2 * n_points(section.kpoints, n_atoms)


def _there(key: str, missing: Mapping[str, list[str]], elements: Sequence[str]) -> Finding:
    lacks = [f"no {kind} for {', '.join(names)}" for kind, names in missing.items() if names]
    if lacks:
        cure = "install more of them, or name others"
        return error(key, f"the program has {' and '.join(lacks)}", cure)
    return ok(key, f"there is a {' and a '.join(missing)} for {', '.join(elements)}")
