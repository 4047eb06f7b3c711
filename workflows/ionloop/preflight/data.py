"""The pre-flight check of labels that are there already: units, limits, distances, convergence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ionloop.codes.common.acceptance import AcceptanceLimits, Terms
from ionloop.flows.concurrent_learning.settings import ExistingData
from ionloop.formats.reading import unconverged
from ionloop.jobs.label.imports import judge, rejections_in_words
from ionloop.jobs.label.ingest import CONVERT
from ionloop.runfile.findings import Finding, error, ok, warning
from ionloop.runfile.model import RunFile
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, LevelOfTheory
from ionloop.selection.plausible import doubts


def look_at_labels(run_file: RunFile, files: Sequence[Sequence[Frames]]) -> Iterator[Finding]:
    """Judge the labels of existing data as the run will.

    Parameters
    ----------
    run_file
        What to check.
    files
        What was read of each of `initial.data`, nothing where it could not be.
    """
    limits = getattr(run_file.label, "limits", AcceptanceLimits())
    physical = getattr(run_file.explore, "limits", None)
    level = LevelOfTheory(code="check", settings={})
    for number, (data, parts) in enumerate(zip(run_file.initial.data, files, strict=True)):
        key = f"initial.data[{number}]"
        if not parts or not all(part.is_labelled for part in parts):
            continue
        found = doubts(parts) if data.check_units else []
        for doubt in found:
            yield error(key, f"{data.path}: {doubt}", CONVERT)
        terms = Terms(level=level, limits=data.limits(limits))
        if not found:
            yield from _look_at_verdicts(key, data, judge(parts, terms, physical))
        yield from _look_at_convergence(key, data)


def _look_at_verdicts(
    key: str, data: ExistingData, labels: Sequence[LabelDoc]
) -> Iterator[Finding]:
    if told := rejections_in_words(labels):
        note = error if all(label.reason for label in labels) else warning
        yield note(key, f"{data.path}: {told}", "correct or remove them, or raise the limits")


def _look_at_convergence(key: str, data: ExistingData) -> Iterator[Finding]:
    n = unconverged(Path(data.path), data.format)
    if n is None:
        yield ok(key, "no word on the convergence of its SCF is read: taken as converged")
    elif n:
        yield warning(key, f"{data.path}: {n} frames whose SCF did not converge are left out")
