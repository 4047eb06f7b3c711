from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from ionloop.engines.base import EngineError
from ionloop.engines.local.engine import LocalEngine
from ionloop.schemas.process import STALE
from ionloop.stores.connect import collection, open_store

RUN = "lgps"
FAULTS: dict[str, dict[str, Any]] = {
    "train-1": {"state": "failed", "tries": 2, "error": {"summary": "train failed: walltime"}},
    "label-1": {"state": "failed", "tries": 1, "error": {"summary": "label failed: no licence"}},
    "after-1": {"state": "skipped", "error": {"summary": "a parent failed"}},
    "stopped-1": {"state": "skipped", "stop": "children", "error": {"summary": "on request"}},
    "done-1": {"state": "completed", "tries": 1},
}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalEngine:
    """Return an engine that never goes on by itself, with a run that failed."""
    monkeypatch.setattr(LocalEngine, "proceed", lambda _, run: (tmp_path / run).touch())
    entries = [{**entry(job_id, order), **FAULTS[job_id]} for order, job_id in enumerate(FAULTS)]
    with open_store(tmp_path / "run.db") as store:
        collection(store, "jobs").update(entries[::-1], key="job_id")
    return LocalEngine(str(tmp_path / "run.db"), tmp_path)


def entry(job_id: str, order: int) -> dict[str, Any]:
    role = job_id.partition("-")[0]
    where = {"job_id": job_id, "run": RUN, "uuid": role, "index": 1, "name": role, "role": role}
    return {**where, "parents": [], "holds": [], "tolerant": False, "cores": 1, "order": order}


def states(engine: LocalEngine) -> dict[str, tuple[str, int]]:
    return {row.job_id: (row.state.value, row.tries) for row in engine.jobs(RUN)}


def test_jobs_come_in_the_order_of_submission(engine: LocalEngine) -> None:
    assert list(states(engine)) == list(FAULTS)


def test_a_retry_puts_failed_jobs_back_and_what_was_skipped_for_them(
    engine: LocalEngine, tmp_path: Path
) -> None:
    assert engine.retry(RUN) == 2
    assert states(engine) == {
        "train-1": ("waiting", 0),
        "label-1": ("waiting", 0),
        "after-1": ("waiting", 0),
        "stopped-1": ("skipped", 0),
        "done-1": ("completed", 1),
    }
    assert [row.error for row in engine.jobs(RUN)] == [None, None, None, "on request", None]
    assert (tmp_path / RUN).exists()


def test_a_retry_is_for_the_jobs_that_are_named(engine: LocalEngine, tmp_path: Path) -> None:
    assert engine.retry(RUN, role="train", error="licence") == 0
    assert states(engine)["after-1"][0] == "skipped"
    assert not (tmp_path / RUN).exists()
    assert engine.retry(RUN, error="licence") == 1
    assert states(engine)["train-1"] == ("failed", 2)
    assert states(engine)["label-1"] == states(engine)["after-1"] == ("waiting", 0)


def write_runner(engine: LocalEngine, silence: float, **fields: Any) -> None:
    heartbeat = (datetime.now(UTC) - timedelta(seconds=silence)).isoformat()
    with open_store(engine.store_url) as store:
        runner = {"heartbeat": heartbeat, **fields}
        collection(store, "runs").update([{"run": RUN, "runner": runner}], key="run")


def test_a_run_at_work_elsewhere_is_left_alone_until_it_is_silent(engine: LocalEngine) -> None:
    elsewhere = {"host": "node7", "pid": 3, "process_created": 0.0}
    write_runner(engine, STALE - 9, **elsewhere)
    with pytest.raises(EngineError, match="process 3 on node7: pause it there"):
        engine.pause(RUN)
    with pytest.raises(EngineError, match="is at work: pause it first"):
        engine.retry(RUN)
    write_runner(engine, STALE + 9, **elsewhere)
    assert engine.pause(RUN) == 0
    assert engine.retry(RUN) == 2


def test_a_run_at_work_here_is_not_cancelled(engine: LocalEngine) -> None:
    created = psutil.Process().create_time()
    here = {"host": os.uname().nodename, "pid": os.getpid()}
    write_runner(engine, 0, **here, process_created=created)
    with pytest.raises(EngineError, match="is at work"):
        engine.cancel(RUN)
    write_runner(engine, 0, **here, process_created=created - 1000)  # the id, used again
    engine.retry(RUN)
    assert engine.cancel(RUN) == 3
    assert states(engine)["train-1"][0] == "cancelled"
