"""FireWorks with the database server and the queue: every job once, whatever happens."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jobflow import Flow

sys.path.insert(0, str(Path(__file__).parent))

import fireworks_jobs as jobs
from fireworks_site import MONGO, SLURM, Site, opened_site, states, wait_until

from ionloop.makers.base import assign
from ionloop.runners.engine import EngineError, JobState
from ionloop.runners.fireworks import FireworksEngine
from ionloop.runners.fireworks_table import last_sentence

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(MONGO is None, reason="IONLOOP_TEST_MONGO_URI is not set"),
    # A LaunchPad never closes its connection.
    pytest.mark.filterwarnings("ignore:Unclosed MongoClient:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
needs_slurm = pytest.mark.skipif(SLURM is None, reason="SLURM_CONF is not set: no Slurm here")

PLACEMENT = {"default": {"_fworker": "cpu"}, "train": {"_fworker": "gpu"}}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened_site(tmp_path) as opened:
        yield opened


def loop(path: Path, last: int = 2, width: int = 4) -> Flow:
    return Flow([jobs.new_turn(str(path), 0, last, width)])


def expected(last: int = 2, width: int = 4) -> Counter[str]:
    labels = [f"label-{turn}-{k}" for turn in range(last) for k in range(width)]
    trainings = [f"train-{turn}" for turn in range(last)]
    return Counter([*labels, *trainings, *(f"turn-{turn}" for turn in range(last + 1))])


def started(path: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in jobs.notes(path))


def ended(engine: FireworksEngine, run: str = "run") -> bool:
    rows = engine.jobs(run)
    return bool(rows) and set(states(rows)) == {JobState.COMPLETED}


def row_of(engine: FireworksEngine, name: str, run: str = "run") -> Any:
    (row,) = [row for row in engine.jobs(run) if row.name == name]
    return row


def test_three_runners_run_a_growing_flow_every_job_once(site: Site, tmp_path: Path) -> None:
    engine, notes = site.engine(), tmp_path / "notes"
    engine.submit(loop(notes), "run", PLACEMENT)
    assert [(row.name, row.state) for row in engine.jobs("run")] == [("turn 0", JobState.WAITING)]
    for worker in ("cpu", "cpu", "gpu"):
        site.rlaunch(worker)
    wait_until(lambda: ended(engine), 60, site)

    assert started(notes) == expected()
    rows = engine.jobs("run")
    workers = {(row.role, row.worker) for row in rows}
    assert workers == {("label", "cpu"), ("train", "gpu"), ("decide", "cpu")}
    assert {row.tries for row in rows} == {1}
    assert all(row.started < row.ended for row in rows)
    assert engine.pause("run") == engine.cancel("run") == engine.retry("run") == 0
