"""How far the programs of a job have come, read from the files that they write."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path


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
    for folder in folders:
        for look in (_of_trainings, _of_trajectories):
            if found := look(folder):
                return found
    return None


def _of_trainings(folder: Path) -> Advance | None:
    """DeePMD-kit: `numb_steps` of input.json, and the last step in lcurve.out."""
    curves = [(curve, _asked(curve.parent)) for curve in folder.rglob("lcurve.out")]
    steps = [(min(_last_step(curve), asked), asked) for curve, asked in curves if asked]
    if not steps:
        return None
    done, asked = min(steps, key=itemgetter(0))
    return Advance(f"training step {done} of {asked}", *map(sum, zip(*steps, strict=True)))


def _asked(folder: Path) -> int:
    try:
        return int(json.loads((folder / "input.json").read_text())["training"]["numb_steps"])
    except (OSError, ValueError, KeyError):
        return 0


def _of_trajectories(folder: Path) -> Advance | None:
    """LAMMPS: steps in its script, trajectories that are over, last step of the running one."""
    scripts = list(folder.rglob("in.lammps"))
    n_all = len(list(folder.rglob("trajectory-*.data")))
    running = max(folder.rglob("trajectory-*.temperature"), key=_written, default=None)
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
    for line in _text(script).splitlines():
        if log := re.fullmatch(r"log (trajectory-\d+)\S*", line):
            name = log[1]
        if run := re.fullmatch(r"run (\d+)", line):
            steps[name] += int(run[1])
    return max(steps.values(), default=0)


def _last_step(table: Path) -> int:
    """Return the number that the last whole line of a table begins with; 0 before the first."""
    lines = _text(table).rpartition("\n")[0].splitlines()
    numbers = [line.split()[0] for line in lines[-1:] if line.split()]
    return int(numbers[0]) if numbers and numbers[0].isdecimal() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # removed meanwhile: the job has ended
        return ""


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
