"""Fine-tuning in this process: whether package and device are there, the base fits; its speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ionloop.codes.common.ase import without_known_warnings
from ionloop.codes.common.prediction import force_errors
from ionloop.codes.finetuning.device import check_device
from ionloop.codes.finetuning.loop import spread
from ionloop.preflight.codes.base import look_at_code, look_at_known_labels, training_seconds
from ionloop.preflight.findings import Finding, error, ok, sentence_of, warning
from ionloop.programs.errors import MissingExtraError
from ionloop.runfile.sections.chgnet import ChgnetSection
from ionloop.runfile.sections.finetune import TorchFineTuneSection
from ionloop.runfile.sections.sevennet import SevennetSection
from ionloop.schemas.errors import InputError, IonloopError
from ionloop.schemas.frames import Frames, symbols_of

STEP_SECONDS: Mapping[str, float] = {
    "7net-0": 0.9,
    "7net-mf-0": 0.9,
    "7net-l3i5": 2.6,
    "chgnet": 0.3,
}
"""Seconds of a step on 50 atoms of LGPS, by the base."""

USUAL_FRAMES = 100
"""Frames for whose number of steps the time is estimated."""

MOST_COMPARED = 8
"""Labels that are compared with the base."""


@look_at_code.register(SevennetSection)
@look_at_code.register(ChgnetSection)
def _look_at_fine_tuning(
    section: TorchFineTuneSection, elements: Sequence[str]
) -> Iterator[Finding]:
    """Load the base, compare its elements with those wanted, and look for the device."""
    try:
        versions = section.versions
    except MissingExtraError as problem:
        yield error("train.code", sentence_of(problem))
        return
    try:
        check_device(section.device, "train.device")
    except IonloopError as problem:
        yield error("train.device", sentence_of(problem).removeprefix("train.device: "))
    if section.patience and not section.validation_fraction:
        sentence = "no frame is held back, so that no training stops early"
        yield warning("train.patience", sentence, "set train.validation_fraction above 0")
    if section.from_scratch:
        yield ok("train.base", f"{section.code} models are trained from scratch")
        return
    try:
        with without_known_warnings():
            net = section.model_copy(update={"device": "cpu"}).open(section.base_path())
        section.check_elements(net.elements, elements)
    except IonloopError as problem:
        yield error("train.base", sentence_of(problem).removeprefix("train.base: "))
        return
    installed = ", ".join(f"{name} {version}" for name, version in versions.items())
    sentence = f"{section.base} knows {', '.join(elements)}; it is fine-tuned with {installed}"
    yield ok("train.base", sentence)


@look_at_known_labels.register(SevennetSection)
@look_at_known_labels.register(ChgnetSection)
def _look_at_known_labels(
    section: TorchFineTuneSection, frames: Sequence[Frames]
) -> Iterator[Finding]:
    """Compare a few labels with the base: those of a run that is refused later are bought."""
    known = spread([frame for part in frames for frame in part], MOST_COMPARED)
    if section.from_scratch or not known or not all(frame.is_labelled for frame in known):
        return
    try:
        with without_known_warnings():
            net = section.model_copy(update={"device": "cpu"}).open(section.base_path())
            section.check_elements(net.elements, symbols_of(known))
            predictions = [net.predict(frame, [net.graph(frame)]) for frame in known]
    except IonloopError:  # said where the base is looked at
        return
    try:
        section.check_labels(known, predictions, section.base)
    except InputError as problem:
        yield error("initial.data", sentence_of(problem))
        return
    error_of_base = force_errors(predictions, known).force_mev_per_angstrom
    sentence = (
        f"before fine-tuning, the forces of {section.base} differ by {error_of_base:.0f} meV/Å "
        f"from the labels of {len(known)} frames"
    )
    yield ok("initial.data", sentence)


@training_seconds.register(SevennetSection)
@training_seconds.register(ChgnetSection)
def _fine_tuning_seconds(section: TorchFineTuneSection, n_atoms: int, *, warm: bool) -> float:
    """Estimate the core seconds of one model; other bases count as the one they derive from."""
    usual = {"sevennet": "7net-0", "chgnet": "chgnet"}[section.code]
    step = STEP_SECONDS.get(section.base.lower(), STEP_SECONDS[usual])
    frames = section.batch_size * section.training_steps(USUAL_FRAMES, warm)
    return 20 + frames * step * n_atoms / 50
