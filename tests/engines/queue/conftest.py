"""What the loops of both engines are held against."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from books import place_of


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run the toy run file to its end on this machine; nobody changes the result."""
    folder = tmp_path_factory.mktemp("local")
    place = place_of(folder, str(folder / "a.db"))
    place.write()
    place.run("run", "run.yaml")
    return place
