"""What `mace_run_train` leaves: its table of errors, and its checkpoints.

On one device MACE 0.3.15 goes on whatever its `--patience` says, and after a restart it forgets
which checkpoint was the best. So the table tells here which one that is, and when to stop.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ionloop.codes.common.training import TrainingError
from ionloop.codes.mace.inputs import Course
from ionloop.schemas.table import Table

CHECKPOINTS, RESULTS = "checkpoints", "results"

SCRIPT, CURVE = "input.json", "lcurve.out"
"""Files by which a training tells how far it has come, named as DeePMD-kit names them."""

HEAD = "Default"
"""MACE's name of the head of the new labels."""

NEWEST = 2
"""Checkpoints that are kept besides the best: the last one may be half written."""


@dataclass(frozen=True)
class Comparison:
    """A comparison with the held-back frames.

    Parameters
    ----------
    epoch
        Number of the epoch, from 0, after which it was made.
    loss
        The loss.
    energy
        Root mean square error of the energies in eV/atom.
    force
        Root mean square error of the forces in eV/Å.
    """

    epoch: int
    loss: float
    energy: float
    force: float


def comparisons(folder: Path) -> list[Comparison]:
    """Return the comparisons of a training, in their order; of a repeated epoch the last counts.

    Parameters
    ----------
    folder
        Folder of the training.

    Raises
    ------
    TrainingError
        If an error is not finite.
    """
    found = {}
    for row in _rows(folder):
        if row["mode"] == "eval" and row["head"] == HEAD and row["epoch"] is not None:
            made = Comparison(row["epoch"], row["loss"], row["rmse_e_per_atom"], row["rmse_f"])
            if not np.isfinite([made.loss, made.energy, made.force]).all():
                raise TrainingError(
                    f"the training broke down: the errors after epoch {made.epoch + 1} are not "
                    "finite; lower the learning rate"
                )
            found[made.epoch] = made
    return [found[epoch] for epoch in sorted(found)]


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for path in (folder / RESULTS).glob("*_train.txt"):
        for line in path.read_text().split("\n"):
            try:
                row = json.loads(line)
            except ValueError:  # MACE was killed, or is writing
                continue
            yield row


def epochs_trained(folder: Path) -> int:
    """Return the number of epochs that were trained, repeated ones once.

    Parameters
    ----------
    folder
        Folder of the training.
    """
    return len({row["epoch"] for row in _rows(folder) if row["mode"] == "opt"})


def note_advance(folder: Path, plan: Course) -> None:
    """Write how far a training has come, for those who ask (`ionloop.codes.common.progress`).

    Parameters
    ----------
    folder
        Folder of a training that is running.
    plan
        Its epochs.
    """
    steps = sum(row["mode"] == "opt" for row in _rows(folder))
    (folder / SCRIPT).write_text(json.dumps({"training": {"numb_steps": plan.steps}}))
    (folder / CURVE).write_text(f"{min(steps, plan.steps)}\n")


def out_of_patience(made: Iterable[Comparison], patience: int | None) -> bool:
    """Return whether too many comparisons in a row brought nothing better.

    Parameters
    ----------
    made
        Comparisons in their order.
    patience
        How many are too many; None: none ever are.
    """
    losses = [each.loss for each in made]
    return bool(patience and losses and len(losses) - 1 - int(np.argmin(losses)) >= patience)


def learning_curve(folder: Path, plan: Course, rate: float, held_back: bool) -> Table:
    """Return the comparisons of a training as a learning curve.

    Parameters
    ----------
    folder
        Folder of the training.
    plan
        Steps of an epoch, and how the learning rate falls.
    rate
        Learning rate of the first epoch.
    held_back
        Whether the comparisons were with held-back frames, not with those of the training.
    """
    made = comparisons(folder)
    epochs = np.array([each.epoch for each in made], dtype=int)
    suffix = "val" if held_back else "trn"
    return Table(
        {
            "step": (epochs + 1) * plan.steps_per_epoch,
            f"rmse_e_{suffix}": np.array([each.energy for each in made]),
            f"rmse_f_{suffix}": np.array([each.force for each in made]),
            "lr": rate * plan.decay**epochs,
        }
    )


def checkpoints(folder: Path) -> dict[int, Path]:
    """Return the whole checkpoints by their epoch, in its order.

    Parameters
    ----------
    folder
        Folder of the training.
    """
    found = {}
    for path in (folder / CHECKPOINTS).glob("*_epoch-*.pt"):
        number = re.search(r"_epoch-(\d+)\.pt$", path.name)
        # The end of an archive is written last.
        if number and zipfile.is_zipfile(path):
            found[int(number[1])] = path
    return dict(sorted(found.items()))


def best_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint with the smallest loss on the held-back frames; None if there is none.

    Parameters
    ----------
    folder
        Folder of the training.
    """
    there = checkpoints(folder)
    made = [each for each in comparisons(folder) if each.epoch in there]
    return there[min(made, key=lambda each: each.loss).epoch] if made else None


def remove_checkpoints(folder: Path, keep: Iterable[Path]) -> None:
    """Remove checkpoints, broken ones too.

    Parameters
    ----------
    folder
        Folder of the training.
    keep
        Those that stay.
    """
    kept = set(keep)
    for path in (folder / CHECKPOINTS).glob("*.pt"):
        if path not in kept:
            path.unlink()


def thin_out(folder: Path) -> None:
    """Remove the checkpoints that are neither the best nor among the newest.

    Parameters
    ----------
    folder
        Folder of a training that is running.
    """
    there = list(checkpoints(folder).values())
    best = best_checkpoint(folder)
    for path in there[:-NEWEST]:
        if path != best:
            path.unlink()
