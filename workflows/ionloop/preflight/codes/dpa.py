"""DPA models: whether DeePMD-kit runs with this torch, the base fits, and its speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import nan
from pathlib import Path

from ionloop.codes.deepmd import MissingProgramError
from ionloop.codes.dpa.pretrained import check_elements, check_lora, read_base
from ionloop.codes.dpa.program import check_environment
from ionloop.preflight.codes.base import look_at_code, training_seconds
from ionloop.preflight.codes.finetune import USUAL_FRAMES
from ionloop.preflight.findings import Finding, error, ok, sentence_of, warning
from ionloop.runfile.sections.dpa import DpaSection
from ionloop.schemas.errors import IonloopError

STEP_SECONDS = 3.0
"""Seconds of a step on 50 atoms of LGPS: DPA-3 of 16 layers and 3.3 million weights."""


@look_at_code.register(DpaSection)
def _look_at_dpa(section: DpaSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Look for DeePMD-kit, a torch that fits it and the device, and read the base."""
    try:
        check_environment(section)
        versions = section.versions
    except MissingProgramError as problem:
        yield error("train.command", sentence_of(problem))
        return
    except IonloopError as problem:
        yield error("train.device", sentence_of(problem).removeprefix("train.device: "))
        return
    installed = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield ok("train.command", f"{installed} fine-tune on {section.device}")
    yield from _look_at_base(section, elements)
    if section.patience and not section.validation_fraction:
        sentence = "no frame is held back, so that no training stops early"
        yield warning("train.patience", sentence, "set train.validation_fraction above 0")


def _look_at_base(section: DpaSection, elements: Sequence[str]) -> Iterator[Finding]:
    try:
        base = read_base(Path(section.base), section.branch)
        check_elements(base.type_map, elements, section.base)
        check_lora(base, section.lora)
    except IonloopError as problem:
        key, _, sentence = sentence_of(problem).partition(": ")
        yield error(key, sentence)
        return
    branch = f", branch {base.branch}" if base.branch else ""
    known = f"{', '.join(elements)} and {len(set(base.type_map) - set(elements))} other elements"
    yield ok("train.base", f"{section.base}{branch} knows {known}")


@training_seconds.register(DpaSection)
def _dpa_seconds(section: DpaSection, n_atoms: int, *, warm: bool) -> float:
    """Estimate the core seconds of one model of the size of DPA-3; nan on a GPU, not measured."""
    if section.device != "cpu":
        return nan
    frames = section.batch_size * section.training_steps(USUAL_FRAMES, warm)
    return 30 + frames * STEP_SECONDS * n_atoms / 50
