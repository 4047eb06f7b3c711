"""LAMMPS: whether it is there, loads the models, and its speed."""

from __future__ import annotations

from collections.abc import Iterator

from ionloop.codes import deepmd, lammps
from ionloop.preflight.codes.base import look_at_models, step_seconds
from ionloop.preflight.findings import Finding, error, ok, sentence_of
from ionloop.runfile.sections.base import TrainSection
from ionloop.runfile.sections.dpa import DpaSection
from ionloop.runfile.sections.lammps import LammpsSection


@look_at_models.register(LammpsSection)
def _look_at_lammps(section: LammpsSection, trainer: TrainSection) -> Iterator[Finding]:
    """Look for LAMMPS with the pair style of the models, and let it load them (takes seconds)."""
    kind = trainer.maker_type.kind
    try:
        version = lammps.program_version(section.command, kind)
        style = lammps.PAIR_STYLES[kind].split()[0]
        yield ok("explore.command", f"LAMMPS ({version}) explores, with pair_style {style}")
        # DeePMD-kit's wheel requires the TensorFlow that its plugin was built for.
        backend = "pytorch" if isinstance(trainer, DpaSection) else getattr(trainer, "backend", "")
        if backend == "pytorch":
            lammps.check_models(section.command, deepmd.SUFFIXES[backend], kind)
    except lammps.LammpsError as problem:
        yield error("explore.command", sentence_of(problem).removeprefix("explore.command: "))


@step_seconds.register(LammpsSection)
def _lammps_seconds(
    section: LammpsSection, trainer: TrainSection, n_atoms: int, n_models: int, dump_every: int
) -> float:
    """Estimate the core seconds of one MD step; all models but one run at dumps only."""
    return n_atoms * 2.5e-4 * (1 + (n_models - 1) / dump_every)
