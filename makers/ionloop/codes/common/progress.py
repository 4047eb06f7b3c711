"""How far the programs of a job have come, read from the files that they write."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from operator import itemgetter
from pathlib import Path

import numpy as np

from ionloop.schemas.packed import Array

LONGEST_ROW = 1024  # bytes at the end of a table among which its last whole row is


@dataclass(frozen=True)
class Advance:
    """How far a job has come.

    Attributes
    ----------
    words
        Such as "training step 1200 of 3000".
    done, total
        Steps of all that the job runs, for its fraction and the time that is left.
    """

    words: str
    done: int
    total: int


def advance_of(folders: Iterable[Path]) -> Advance | None:
    """Return how far the job that works in these folders has come; None if no file says it.

    Of several trainings at the same time the slowest counts; of trajectories the running one.
    """
    for folder, look in product(folders, (_of_trainings, _of_trajectories)):
        # A file that has just been removed, or is not yet complete, says nothing.
        with suppress(OSError, ValueError, KeyError):
            if found := look(folder):
                return found
    return None


def _of_trainings(folder: Path) -> Advance | None:
    """DeePMD-kit: `numb_steps` of input.json, and the last step in lcurve.out."""
    steps = []
    for curve in folder.rglob("lcurve.out"):
        script = json.loads(curve.with_name("input.json").read_text())
        asked = script["training"]["numb_steps"]
        steps.append((min(_last_step(curve), asked), asked))
    if not steps:
        return None
    done, asked = min(steps, key=itemgetter(0))
    return Advance(f"training step {done} of {asked}", *map(sum, zip(*steps, strict=True)))


def _of_trajectories(folder: Path) -> Advance | None:
    """LAMMPS: steps in its script, trajectories that are over, last step of the running one."""
    scripts = list(folder.rglob("in.lammps"))
    n_all = len(list(folder.rglob("trajectory-*.data")))
    thermometers = folder.rglob("trajectory-*.temperature")
    running = max(thermometers, key=lambda path: path.stat().st_mtime, default=None)
    if not scripts or running is None:
        return None
    n_over = len(list(folder.rglob("trajectory-*.over")))
    if n_over == n_all:  # its file is the last to close
        return None
    step = _last_step(running)
    each = max(step, *map(_longest_run, scripts))
    words = f"MD step {step} of {each}, trajectory {n_over + 1} of {n_all}"
    return Advance(words, n_over * each + step, n_all * each)


def _longest_run(script: Path) -> int:
    """Return the most steps that a trajectory has in a script, all of its legs together."""
    steps: Counter[str] = Counter()
    name = ""
    for line in script.read_text(errors="replace").splitlines():
        if log := re.fullmatch(r"log (trajectory-\d+)\S*", line):
            name = log[1]
        if run := re.fullmatch(r"run (\d+)", line):
            steps[name] += int(run[1])
    return max(steps.values(), default=0)


def _last_step(table: Path) -> int:
    row = read_last_row(table)
    return 0 if row is None else int(row[0])


def read_last_row(path: Path) -> Array | None:
    """Read the last whole row of a growing table of numbers, or None if there is none yet."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_ROW))
        whole = file.read().decode(errors="replace").split("\n")[:-1]
    words = whole[-1].split() if whole else []
    return None if not words or words[0].startswith("#") else np.array(words, dtype=float)
