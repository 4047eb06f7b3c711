"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobflow import JobStore

from ionloop.codes.structures import load_structures, perturb
from ionloop.schemas.frames import Frames
from ionloop.stores.connect import open_store

TOY = Path(__file__).parent / "toy"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make the toy labeller importable, here and in worker processes; return its log."""
    log = tmp_path / "toy.log"
    log.touch()
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.setenv("PYTHONPATH", str(TOY), prepend=os.pathsep)
    monkeypatch.setenv("TOY_LOG", str(log))
    return log


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    """Open an embedded store."""
    opened = open_store(tmp_path / "ionloop.db")
    yield opened
    opened.close()


@pytest.fixture
def gold_copper() -> Frames:
    """Twelve perturbed frames of the 8-atom toy cell."""
    (start,) = load_structures([TOY / "AuCu.vasp"])
    return perturb(start, 12, displacement=0.15, strain=0.03, seed=5)
