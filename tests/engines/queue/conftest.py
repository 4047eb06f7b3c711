"""What the loops of both engines are held against."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from books import finished_toy


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give the place of a toy run that has ended on this machine; nobody changes it."""
    return finished_toy(tmp_path_factory.mktemp("local"))
