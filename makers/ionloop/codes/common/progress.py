"""How far the programs of a job have come, read from the files that they write."""

from __future__ import annotations

import json
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
    """Trainings, as DeePMD-kit notes them: `numb_steps` of input.json, last step of lcurve.out."""
    steps = []
    for curve in folder.rglob("lcurve.out"):
        script = json.loads(curve.with_name("input.json").read_text())
        asked = script["training"]["numb_steps"]
        steps.append((min(_last_step(curve), asked), asked))
    if not steps:
        return None
    done, asked = min(steps, key=itemgetter(0))
    return Advance(f"training step {done} of {asked}", *map(sum, zip(*steps, strict=True)))


def plan_trajectory(name: str, steps: int, folder: Path) -> None:
    """Note how many steps a trajectory is to have, for those who ask how far the job has come.

    While it runs, it writes rows of step and temperature to ``<name>.temperature``, or to one such
    file for each of its legs, ``<name>.<leg>.temperature``; when it is over, ``<name>.over``.

    Parameters
    ----------
    name
        Stem of the trajectory's file names.
    steps
        MD steps.
    folder
        Where it runs.
    """
    (folder / f"{name}.steps").write_text(f"{steps}\n")


def _of_trajectories(folder: Path) -> Advance | None:
    """Molecular dynamics: trajectories that are over, and the last steps of the running ones."""
    plans = {path.stem: int(path.read_text()) for path in folder.rglob("trajectory-*.steps")}
    over = {path.stem for path in folder.rglob("trajectory-*.over")} & set(plans)
    tables = sorted(folder.rglob("trajectory-*.temperature"), key=lambda path: path.stat().st_mtime)
    steps = {path.name.split(".")[0]: _last_step(path) for path in tables}
    running = [name for name in steps if name in plans and name not in over]
    if not running:  # none has begun, or the last one just ended
        return None
    newest = tables[-1].name.split(".")[0]
    name = newest if newest in running else running[-1]
    numbers = f"{len(over) + 1}" + (f"-{len(over) + len(running)}" if running[1:] else "")
    which = f"{'trajectories' if running[1:] else 'trajectory'} {numbers} of {len(plans)}"
    done = sum(plans[each] for each in over) + sum(steps[each] for each in running)
    words = f"MD step {steps[name]} of {plans[name]}, {which}"
    return Advance(words, done, sum(plans.values()))


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
