"""The state of a training, as a file from which it continues bit by bit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ionloop.schemas.table import Table

STATE, CURVE, SCRIPT = "state.pt", "lcurve.out", "input.json"

FILES = (f"{STATE}*", f"{CURVE}*", f"{SCRIPT}*", "model*")
"""Patterns of what a training leaves in its folder."""


@dataclass
class State:
    """How far a training has come.

    Parameters
    ----------
    step
        Steps done.
    model, optimizer
        Weights, and the state of the optimiser.
    random
        State of torch's random numbers: of the CPU and of every GPU.
    rows
        Learning curve, a row per comparison.
    best
        Weights of the best model that was compared; empty if there is none.
    best_loss
        Its loss on the held-back frames.
    misses
        Comparisons since then.
    over
        Whether the training has ended.
    """

    step: int = 0
    model: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    random: Any = None
    rows: list[dict[str, float]] = field(default_factory=list)
    best: Mapping[str, Any] = field(default_factory=dict)
    best_loss: float = float("inf")
    misses: int = 0
    over: bool = False


def write_state(state: State, folder: Path) -> None:
    """Write a state in one move: after a kill there is the old file or the new one.

    Parameters
    ----------
    state
        How far the training has come.
    folder
        Folder of the training.
    """
    import torch

    with (folder / f"{STATE}.part").open("wb") as file:
        torch.save(vars(state), file)
        file.flush()
        os.fsync(file.fileno())
    write_curve(state.rows, folder)
    (folder / f"{STATE}.part").replace(folder / STATE)


def read_state(folder: Path) -> State | None:
    """Read the state of a training, or None if there is none.

    Parameters
    ----------
    folder
        Folder of the training.
    """
    import torch

    if not (folder / STATE).exists():
        return None
    saved = torch.load(folder / STATE, weights_only=False, map_location="cpu")
    return State(**saved)


def write_curve(rows: list[dict[str, float]], folder: Path) -> None:
    """Write the learning curve as DeePMD-kit does: names after a #, then numbers in columns.

    Parameters
    ----------
    rows
        Its rows.
    folder
        Folder of the training.
    """
    lines = [f"# {' '.join(rows[0])}", *(_line(row) for row in rows)]
    (folder / f"{CURVE}.part").write_text("\n".join(lines) + "\n")
    (folder / f"{CURVE}.part").replace(folder / CURVE)


def _line(row: Mapping[str, float]) -> str:
    return " ".join(f"{value:.6e}" if name != "step" else f"{value}" for name, value in row.items())


def curve_of(state: State) -> Table:
    """Return the learning curve of a training.

    Parameters
    ----------
    state
        Its state.
    """
    names = state.rows[0]
    return Table({name: np.array([row[name] for row in state.rows]) for name in names})
