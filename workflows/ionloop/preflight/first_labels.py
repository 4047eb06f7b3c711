"""Let the labeller calculate cells of two atoms before a thousand jobs rely on it."""

from __future__ import annotations

from collections.abc import Iterator

from ionloop.jobs.label.batches import BatchLabelMaker
from ionloop.jobs.label.probe import probe, probe_cells
from ionloop.preflight.findings import Finding, error, ok
from ionloop.preflight.inputs import Inputs
from ionloop.programs.process import PROBE_SECONDS, ProgramError
from ionloop.runfile.model import RunFile
from ionloop.schemas.label import LabelDoc, RejectReason

ABOUT_THE_CELL = (RejectReason.UNCONVERGED, RejectReason.OUTLIER)
"""Rejections that say something about a made-up cell, not about the labeller."""


def look_at_first_labels(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Let the labeller calculate cells of two atoms, as a job of the run would, on this host.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    if not run_file.label.starts_a_program or not inputs.elements:
        return
    maker = run_file.label.maker()
    assert isinstance(maker, BatchLabelMaker)
    try:
        labels = probe(maker, probe_cells(inputs.elements), PROBE_SECONDS)
    except ProgramError as problem:
        cure = "see that it starts, or leave this out (--no-probe)"
        yield error("label", f"no label of a cell of two atoms: {problem}", cure)
        return
    yield from map(_first_label, labels)


def _first_label(label: LabelDoc) -> Finding:
    cell = label.frame.formula
    if label.reason in ABOUT_THE_CELL:
        detail = f"whose result cannot be trained on ({label.detail}), as may be in so small a cell"
        return ok("label", f"the labeller calculates a cell of {cell}, {detail}")
    if label.reason is not None:
        return error("label", f"no label of a cell of {cell}: {label.detail}", "correct that first")
    return ok("label", f"the labeller gives a label of a cell of {cell}, in {label.seconds:.0f} s")
