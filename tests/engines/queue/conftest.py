"""What the loops of both engines are held against; who may stop the one Slurm there is."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from books import finished_toy

ALONE = "test_slurmd_stopped_and_started"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what must be alone: other processes are not at Slurm yet."""
    items.sort(key=lambda item: getattr(item, "originalname", "") != ALONE)


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give the place of a toy run that has ended on this machine; nobody changes it."""
    return finished_toy(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="session")
def slurm_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IO[str]]:
    """Open what the test processes lock that share Slurm."""
    folder = Path(os.environ.get("IONLOOP_TEST_SHARED", tmp_path_factory.getbasetemp()))
    with (folder / "slurm.lock").open("w") as lock:
        yield lock


@pytest.fixture(autouse=True)
def slurm_at_hand(request: pytest.FixtureRequest, slurm_lock: IO[str]) -> Iterator[None]:
    """Let no other test process use Slurm while a test stops its daemon."""
    alone = request.node.originalname == ALONE
    fcntl.flock(slurm_lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    yield
    if not alone:  # the next one may have to be alone too: nobody should come between
        fcntl.flock(slurm_lock, fcntl.LOCK_UN)
