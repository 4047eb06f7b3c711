"""LAMMPS: whether it is there, loads the models, and its speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ionloop.codes import deepmd, lammps
from ionloop.preflight.codes.base import look_at_code, look_at_models, sentence_of, step_seconds
from ionloop.preflight.findings import Finding, error, ok
from ionloop.runfile.sections.base import TrainSection
from ionloop.runfile.sections.deepmd import DeepmdSection
from ionloop.runfile.sections.lammps import LammpsSection


@look_at_code.register(LammpsSection)
def _look_at_lammps(section: LammpsSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Look for LAMMPS with ``pair_style deepmd``."""
    try:
        version = lammps.program_version(section.command)
    except lammps.LammpsError as problem:
        yield _refusal(problem)
        return
    yield ok("explore.command", f"LAMMPS ({version}) explores, with pair_style deepmd")


@look_at_models.register(LammpsSection)
def _look_at_plugin(section: LammpsSection, trainer: TrainSection) -> Iterator[Finding]:
    """Let LAMMPS load the part of its plugin that the models need, which takes some seconds."""
    if not isinstance(trainer, DeepmdSection) or trainer.backend == "tensorflow":
        return  # the wheel pins TensorFlow
    try:
        lammps.check_models(section.command, deepmd.SUFFIXES[trainer.backend])
    except lammps.LammpsError as problem:
        yield _refusal(problem)


def _refusal(problem: lammps.LammpsError) -> Finding:
    return error("explore.command", sentence_of(problem).removeprefix("explore.command: "))


@step_seconds.register(LammpsSection)
def _lammps_seconds(section: LammpsSection, n_atoms: int, n_models: int, dump_every: int) -> float:
    """Estimate the core seconds of one MD step; all models but one run at dumps only."""
    return n_atoms * 2.5e-4 * (1 + (n_models - 1) / dump_every)
