"""Molecular dynamics with ASE calculators: whether the device is there, and its speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import nan
from pkgutil import resolve_name

from ionloop.codes.ase.ensemble import check_device_of
from ionloop.codes.ase.torchsim import why_not_batched
from ionloop.preflight.codes.base import look_at_models, step_seconds
from ionloop.preflight.findings import Finding, error, ok, sentence_of
from ionloop.programs.errors import MissingExtraError
from ionloop.runfile.sections.ase import AseSection
from ionloop.runfile.sections.base import TrainSection
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.potential import DEEPMD

EVALUATION_SECONDS: Mapping[str, float] = {
    "7net-l3i5": 0.59,
    "sevennet": 0.21,
    "chgnet": 0.08,
    "mace": 1.0,
    DEEPMD: 0.02,
}
"""Core seconds of an energy with forces on 50 atoms of LGPS, by the base or the kind."""


@look_at_models.register(AseSection)
def _look_at_ase(section: AseSection, trainer: TrainSection) -> Iterator[Finding]:
    """Look for the device, and whether trajectories can advance as one batch."""
    kind = trainer.maker_type.kind
    try:
        check_device_of(kind, section.device)
    except IonloopError as problem:
        key = "explore.code" if isinstance(problem, MissingExtraError) else "explore.device"
        yield error(key, sentence_of(problem).removeprefix("explore.device: "))
        return
    try:
        reason = why_not_batched(kind, section)
    except IonloopError as problem:
        yield error("explore.batched", sentence_of(problem).removeprefix("explore.batched: "))
        return
    if ":" in kind:
        try:
            resolve_name(kind)
        except Exception as problem:  # noqa: BLE001  # a user's module may raise anything
            yield error("explore.code", f"{kind} cannot be imported ({problem})")
            return
    how = f"one trajectory after another ({reason})" if reason else "in batches, by torch-sim"
    yield ok("explore.code", f"ASE calculators of {kind} explore on {section.device}, {how}")


@step_seconds.register(AseSection)
def _ase_seconds(
    section: AseSection, trainer: TrainSection, n_atoms: int, n_models: int, dump_every: int
) -> float:
    """Estimate the core seconds of one MD step; all models but one run at dumps only."""
    base = str(getattr(trainer, "base", "")).lower()
    usual = EVALUATION_SECONDS.get(trainer.maker_type.kind, nan)
    each = EVALUATION_SECONDS.get(base, usual) if section.device == "cpu" else nan
    return each * n_atoms / 50 * (1 + (n_models - 1) / dump_every)
