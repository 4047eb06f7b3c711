"""Toy labellers for tests, given to the loop by import path: quick, with real forces.

Gold-copper in effective medium theory stands in for the material: an 8-atom cell labels in
milliseconds, and a network of a few neurons learns it in seconds. Every finished calculation
appends a line to the file named by TOY_LOG, which is how tests count labels at the labeller.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT


def frame_key(atoms: Atoms) -> str:
    """Return a hash of the positions, to tell frames apart in the log."""
    return hashlib.sha256(atoms.positions.round(6).tobytes()).hexdigest()[:16]


class ToyLabeller(EMT):
    """Effective medium theory that counts, and that misbehaves on request.

    Parameters
    ----------
    seconds
        Time that a label takes.
    raise_every, nan_every
        Raise, or return NaN forces, for about one frame in so many.
    slow_every, slow_seconds
        Take this much longer for about one frame in so many.
    kill_every
        Kill the process for about one frame in so many.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        raise_every: int = 0,
        nan_every: int = 0,
        slow_every: int = 0,
        slow_seconds: float = 0.0,
        kill_every: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pause = seconds
        self.raise_every = raise_every
        self.nan_every = nan_every
        self.slow_every = slow_every
        self.slow_seconds = slow_seconds
        self.kill_every = kill_every

    def calculate(self, atoms: Atoms | None = None, *args: Any, **kwargs: Any) -> None:
        """Calculate, misbehave if it is this frame's turn, count."""
        super().calculate(atoms, *args, **kwargs)
        assert atoms is not None
        time.sleep(self.pause)
        key = frame_key(atoms)
        if _is_turn(key, self.slow_every):
            time.sleep(self.slow_seconds)
        if _is_turn(key, self.kill_every):
            os.kill(os.getpid(), signal.SIGKILL)
        if _is_turn(key, self.raise_every):
            raise RuntimeError("the toy labeller was asked to fail for this frame")
        if _is_turn(key, self.nan_every):
            self.results["forces"] = np.full((len(atoms), 3), np.nan)
        self.count(key)

    def count(self, key: str) -> None:
        """Append a line to the log, in one write."""
        if log := os.environ.get("TOY_LOG"):
            with Path(log).open("a") as file:
                file.write(f"{key} {time.time()}\n")


def _is_turn(key: str, every: int) -> bool:
    return every > 0 and int(key, 16) % every == 0
