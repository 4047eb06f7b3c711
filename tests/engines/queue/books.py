"""The place that the tests of the workflow have, for runs that the queue works on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

PLACES = Path(__file__).parents[2] / "flows" / "conftest.py"


def place_of(folder: Path, store: str) -> Any:
    """Give a folder with a run file, and a store."""
    return places().Place(folder, store)


def finished_toy(folder: Path) -> Any:
    """Give the place of a toy run that has ended on this machine."""
    return places().run_toy(folder)


def places() -> Any:
    """Import the module of the places."""
    spec = importlib.util.spec_from_file_location("place", PLACES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["place"] = module
    spec.loader.exec_module(module)
    return module
