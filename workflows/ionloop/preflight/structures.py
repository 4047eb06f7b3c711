"""The pre-flight check of the start structures and the type map."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ionloop.geometry.periodic import heights
from ionloop.preflight.findings import Finding, error, warning
from ionloop.preflight.inputs import Inputs
from ionloop.runfile.model import RunFile
from ionloop.selection.physical import unphysical
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
    limits = getattr(run_file.explore, "limits", None)
    for frames in inputs.structures:
        thinnest = float(np.min(heights(frames.cells)))
        if thinnest < THIN:
            sentence = f"a cell of {frames.formula} is only {thinnest:.2f} Å thick"
            yield warning("structures", sentence, "check that its unit is Å")
        widest = float(np.max(heights(frames.cells)))
        if widest > WIDE:
            sentence = f"a cell of {frames.formula} is {widest:.3g} Å wide"
            cure = (
                "give it in Å, without vacuum: neither LAMMPS nor a search of neighbours takes it"
            )
            yield error("structures", sentence, cure)
        for doubt in doubts([frames]):
            yield warning("structures", doubt, "convert them to Å")
        for fault in sorted({fault for fault in unphysical(frames, limits).tolist() if fault}):
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
