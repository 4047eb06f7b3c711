"""The toy labeller, misbehaving for the first frame that comes, if the variable FAULT says so."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from toy_labeller import ToyLabeller


class FaultyLabeller(ToyLabeller):
    """Effective medium theory that hangs, raises or returns NaN on request."""

    def calculate(self, atoms: Atoms | None = None, *args: Any, **kwargs: Any) -> None:
        """Calculate, then misbehave."""
        fault = os.environ.get("FAULT")
        if fault == "labeller-hangs":
            time.sleep(600)
        super().calculate(atoms, *args, **kwargs)
        if fault == "labeller-raises" and is_first():
            raise RuntimeError("the self-consistent cycle diverged")
        if fault == "labeller-returns-nan" and is_first():
            self.results["forces"] = np.full((len(atoms or []), 3), np.nan)


def is_first() -> bool:
    """Tell whether this is the first question, over all processes."""
    try:
        Path(os.environ["TOY_LOG"] + ".faulted").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
