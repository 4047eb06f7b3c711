"""The first calculation of a labeller, on cells of two atoms, before a run relies on it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ionloop.jobs.label.batches import BatchLabelMaker
from ionloop.jobs.label.record import attempt
from ionloop.programs.log import last_lines
from ionloop.programs.process import ProgramError, run_program
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc
from ionloop.selection.physical import covalent_radii

EDGE = 9.0
"""Edge of the cell in Å: small enough for plane waves, large enough to need few k-points."""


REQUEST, ANSWER, LOG = "request.pickle", "answer.pickle", "probe.log"


def probe_cells(elements: Sequence[str]) -> list[Frames]:
    """Return cells of two atoms, a bond apart, in which every element occurs.

    Parameters
    ----------
    elements
        Chemical symbols; two make one cell, four make two.
    """
    pairs = [(elements[i], elements[(i + 1) % len(elements)]) for i in range(0, len(elements), 2)]
    return [_pair(*pair) for pair in pairs]


def _pair(first: str, second: str) -> Frames:
    bond = covalent_radii((first, second)).sum()
    along = bond / np.sqrt(3) * np.ones(3)
    positions = np.array([[np.zeros(3), along]]) + 0.1
    return Frames((first, second), positions, EDGE * np.eye(3)[None]).snapped()


def probe(maker: BatchLabelMaker, frames: Sequence[Frames], seconds: float) -> list[LabelDoc]:
    """Label frames as a job would, in a separate process, and write nothing to a ledger.

    Parameters
    ----------
    maker
        The labeller.
    frames
        Single frames.
    seconds
        Time limit for all of them together, in s.

    Raises
    ------
    ProgramError
        If the time limit was exceeded, or the process died.
    """
    with TemporaryDirectory(prefix="ionloop-probe-") as name:
        folder = Path(name)
        (folder / REQUEST).write_bytes(pickle.dumps((maker, list(frames))))
        ended = run_program([sys.executable, "-m", __name__], folder, folder / LOG, seconds)
        if ended.status:
            raise ProgramError(f"the labelling process {ended.words}{last_lines(folder / LOG)}")
        answer: list[LabelDoc] = pickle.loads((folder / ANSWER).read_bytes())
        return answer


if __name__ == "__main__":
    labeller, cells = pickle.loads(Path(REQUEST).read_bytes())
    labels = [attempt(cell, labeller.level, labeller.label, labeller.cores) for cell in cells]
    Path(ANSWER).write_bytes(pickle.dumps(labels))
