"""The pre-flight check of what was read: start structures, type map, labelled data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ionloop.codes.common.acceptance import AcceptanceLimits, Terms
from ionloop.flows.concurrent_learning.settings import ExistingData
from ionloop.formats.reading import unconverged
from ionloop.geometry.periodic import heights
from ionloop.jobs.label.imports import CONVERT, judge, rejections_in_words
from ionloop.preflight.findings import Finding, error, ok, warning
from ionloop.preflight.inputs import Inputs
from ionloop.runfile.model import RunFile
from ionloop.schemas.label import LevelOfTheory
from ionloop.selection.physical import inspect
from ionloop.selection.plausible import doubts

THIN = 2.0
"""Cell height in Å below which a cell is more likely a mistake than a material."""


WIDE = 1000.0
"""Cell height in Å above which the bins of a neighbour search take all memory."""


def look_at_cells(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look for cells and distances that no material has.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    for frames in inputs.structures:
        across = heights(frames.cells)
        if (thinnest := np.min(across)) < THIN:
            sentence = f"a cell of {frames.formula} is only {thinnest:.2f} Å thick"
            yield warning("structures", sentence, "check that its unit is Å")
        if (widest := np.max(across)) > WIDE:
            sentence = f"a cell of {frames.formula} is {widest:.3g} Å wide"
            cure = (
                "give it in Å, without vacuum: neither LAMMPS nor a search of neighbours takes it"
            )
            yield error("structures", sentence, cure)
        for doubt in doubts([frames]):
            yield warning("structures", doubt, "convert them to Å")
        for fault in sorted(set(inspect(frames, run_file.explore.limits).faults.tolist()) - {""}):
            cure = "relax it first (initial.relax) or correct it"
            yield warning("structures", f"a start structure of {frames.formula}: {fault}", cure)


def look_at_types(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Compare the type map with the elements that are there.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    from ase.data import atomic_numbers

    types = run_file.type_map
    if types is None:
        return
    wrong = [symbol for symbol in types if symbol not in atomic_numbers or symbol == "X"]
    missing = [symbol for symbol in inputs.elements if symbol not in types]
    idle = [symbol for symbol in types if symbol not in inputs.elements and symbol not in wrong]
    if wrong:
        yield error("type_map", f"no chemical symbols: {', '.join(wrong)}", "correct them")
    if len(set(types)) < len(types):
        yield error("type_map", "a symbol occurs twice", "name each once")
    if missing:
        yield error("type_map", f"lacks {', '.join(missing)} of the structures or data", "add it")
    if idle and inputs.elements:
        yield warning("type_map", f"{', '.join(idle)}: in no structure and no data")


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
    physical = run_file.explore.limits
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
