"""MACE: whether its environment is there and knows the device, the base fits, and its speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ionloop.codes.finetuning.settings import SCRATCH
from ionloop.codes.mace.beginning import base_of, look_at_base, probe
from ionloop.codes.mace.inputs import replayed_frames
from ionloop.codes.mace.server import TESTED
from ionloop.preflight.codes.base import look_at_code, training_seconds
from ionloop.preflight.findings import Finding, error, ok, sentence_of, warning
from ionloop.runfile.sections.mace import MaceSection
from ionloop.schemas.errors import InputError, IonloopError

USUAL_FRAMES = 100
"""Frames for whose number of steps the time is estimated."""

STEP_SECONDS: Mapping[str, float] = {"float64": 2.5, "float32": 1.05}
"""Seconds of a step on 50 atoms of LGPS with 128 channels, angular momentum 1 and 6 Å."""


@look_at_code.register(MaceSection)
def _look_at_mace(section: MaceSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Start MACE's Python, load the base, and read the replay file."""
    try:
        versions = probe(section)["versions"]
    except InputError as problem:
        yield error("train.device", sentence_of(problem))
        return
    except IonloopError as problem:
        yield error("train.python", sentence_of(problem))
        return
    installed = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield ok("train.python", f"{installed} train on {section.device}")
    if versions["mace-torch"] != TESTED:
        sentence = f"MACE {versions['mace-torch']} is there, and {TESTED} is the version tested"
        yield warning("train.python", sentence, "install that one (docker/install-mace.sh)")
    if section.patience and not section.validation_fraction:
        sentence = "no frame is held back, so that trainings stop by their errors on their own"
        yield warning("train.patience", sentence, "set train.validation_fraction above 0")
    yield from _look_at_base(section, elements)
    if section.replay is not None:
        yield _look_at_replay(section, section.replay)


def _look_at_base(section: MaceSection, elements: Sequence[str]) -> Iterator[Finding]:
    if section.base == SCRATCH:
        yield ok("train.base", "MACE models are trained from scratch")
        return
    try:
        base_of(section)
        known = look_at_base(section, elements)
    except IonloopError as problem:
        yield error("train.base", sentence_of(problem))
        return
    others = len(set(known) - set(elements))
    yield ok("train.base", f"{section.base} knows {', '.join(elements)}, and {others} others")


def _look_at_replay(section: MaceSection, replay: str) -> Finding:
    try:
        frames = replayed_frames(Path(replay), section.replay_frames, seed=0)
        look_at_base(section, sorted({symbol for frame in frames for symbol in frame.symbols}))
    except (IonloopError, OSError) as problem:
        return error("train.replay", sentence_of(problem))
    return ok("train.replay", f"{len(frames)} frames of {replay} are replayed by each model")


@training_seconds.register(MaceSection)
def _mace_seconds(section: MaceSection, n_atoms: int, *, warm: bool) -> float:
    """Estimate the core seconds of one model; a base counts as one of medium size."""
    size = 1.0
    if section.base == SCRATCH:
        angular = 0.4 + 0.6 * section.max_l  # 0: 0.95 s of the 2.5 s
        size = section.channels / 128 * angular * section.layers / 2 * (section.r_max / 6) ** 3
    n_seen = section.batch_size * section.training_steps(USUAL_FRAMES, warm)
    replayed = n_seen / USUAL_FRAMES * section.replay_frames if section.replay else 0
    return 30 + (n_seen + replayed) * STEP_SECONDS[section.dtype] * size * n_atoms / 50
