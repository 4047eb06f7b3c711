"""The pre-flight check of the first training set: its level of theory, units, limits, distances."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ionloop.codes.common.acceptance import AcceptanceLimits, Terms
from ionloop.flows.concurrent_learning.settings import ExistingData
from ionloop.formats.reading import unconverged
from ionloop.jobs.label.imports import judge, rejections_in_words
from ionloop.jobs.label.ingest import CONVERT
from ionloop.preflight.findings import Finding, error, ok, warning
from ionloop.preflight.inputs import Inputs
from ionloop.runfile.model import RunFile
from ionloop.schemas.label import LevelOfTheory
from ionloop.selection.plausible import doubts


def look_at_data(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look whether there will be labels to train on, all of one level of theory.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    initial = run_file.initial
    if not initial.n_perturbed and not initial.data and not initial.aimd:
        cure = "set initial.n_perturbed or initial.aimd, or name labelled data in initial.data"
        yield error("initial", "there is nothing to train on", cure)
    for number, data in enumerate(initial.data):
        yield from _look_at_level(f"initial.data[{number}]", data, initial.allow_mixed)
    if not all(frames.is_labelled for frames in inputs.data):
        yield error("initial.data", "some frames have no energies and forces", "name labelled data")


def _look_at_level(key: str, data: ExistingData, allow_mixed: bool) -> Iterator[Finding]:
    if data.same_level:
        return
    if allow_mixed and data.level:
        sentence = f"labels of two levels of theory are mixed: {data.path} is of {data.level}"
        yield warning(key, sentence, "their energies may differ by more than the model's error")
        return
    sentence = (
        f"{data.path}: labels of two levels of theory never mix, and it is not said that these "
        "are of the labeller's"
    )
    cure = (
        "say same_level: true if they are, or leave them out; or say their level in words and set "
        "initial.allow_mixed"
    )
    yield error(key, sentence, cure)


def look_at_labels(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Judge the labels of existing data as the run will.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    limits = getattr(run_file.label, "limits", AcceptanceLimits())
    physical = getattr(run_file.explore, "limits", None)
    level = LevelOfTheory(code="check", settings={})
    for number, (data, parts) in enumerate(zip(run_file.initial.data, inputs.files, strict=True)):
        key = f"initial.data[{number}]"
        if not parts or not all(part.is_labelled for part in parts):
            continue
        found = doubts(parts) if data.check_units else []
        for doubt in found:
            yield error(key, f"{data.path}: {doubt}", CONVERT)
        if not found:
            labels = judge(parts, Terms(level=level, limits=data.limits(limits)), physical)
            if told := rejections_in_words(labels):
                note = error if all(label.reason for label in labels) else warning
                cure = "correct or remove them, or raise the limits"
                yield note(key, f"{data.path}: {told}", cure)
        yield from _look_at_convergence(key, data)


def _look_at_convergence(key: str, data: ExistingData) -> Iterator[Finding]:
    n = unconverged(Path(data.path), data.format)
    if n is None:
        yield ok(key, "no word on the convergence of its SCF is read: taken as converged")
    elif n:
        yield warning(key, f"{data.path}: {n} frames whose SCF did not converge are left out")
