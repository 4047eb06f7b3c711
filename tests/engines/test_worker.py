from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import toy_jobs as toy
from jobflow import Flow

from ionloop.engines.local.journal import Journal
from ionloop.engines.local.worker import HoldingStore, execute
from ionloop.stores.connect import LoopStore, collection, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LoopStore]:
    with open_store(tmp_path / "run.db") as opened:
        yield opened


def finish(store: LoopStore, job_id: str) -> Journal:
    journal = Journal(collection(store, "jobs"), "x")
    document = journal.read(job_id)
    journal.write(document | execute(document, store))
    return journal


def test_a_held_update_does_not_reach_the_store(store: LoopStore) -> None:
    holding = HoldingStore(store.docs_store)
    holding.update({"uuid": "a", "index": 1}, key=["uuid", "index"])
    assert holding.count() == 0
    assert holding.held == [{"documents": [{"uuid": "a", "index": 1}], "key": ["uuid", "index"]}]
    assert copy.copy(holding).held == holding.held


def test_nothing_shows_before_a_job_is_completed(store: LoopStore, tmp_path: Path) -> None:
    job = toy.turn(str(tmp_path / "notes"), 5, 0, 2)
    Journal(collection(store, "jobs"), "x").submit(job)
    journal = finish(store, f"{job.uuid}-1")
    assert store.count() == 0
    assert [entry.state for entry in journal.entries()] == ["finished"]
    journal.complete(f"{job.uuid}-1", store.docs_store)
    assert store.count() == 1
    assert [entry.name for entry in journal.entries()] == ["turn", "add", "turn", "store_inputs"]
    assert "spawned" not in journal.read(f"{job.uuid}-1")


def test_completing_again_overwrites_no_progress(store: LoopStore, tmp_path: Path) -> None:
    job = toy.divert(str(tmp_path / "notes"), 0.0, "detour")
    journal = Journal(collection(store, "jobs"), "x")
    journal.submit(job)
    finish(store, f"{job.uuid}-1")
    finished = journal.read(f"{job.uuid}-1")
    (spawned,) = journal.complete(f"{job.uuid}-1", store.docs_store)
    journal.change(spawned.job_id, state="running")
    journal.write(finished)
    (again,) = journal.complete(f"{job.uuid}-1", store.docs_store)
    assert again.state == "running"
    assert again.holds == {job.uuid}
    assert store.count() == 1


def test_blobs_of_an_earlier_attempt_are_replaced(store: LoopStore, tmp_path: Path) -> None:
    job, other = (toy.add(str(tmp_path / "notes"), 1, n) for n in (2, 3))
    Journal(collection(store, "jobs"), "x").submit(Flow([job, other]))
    finish(store, f"{other.uuid}-1")
    finish(store, f"{job.uuid}-1")
    finish(store, f"{job.uuid}-1").complete(f"{job.uuid}-1", store.docs_store)
    assert collection(store, "data").count() == 2
    assert store.get_output(job.uuid, load=True)["blob"] == [1, 2]


def test_a_submission_that_was_cut_is_made_again(store: LoopStore, tmp_path: Path) -> None:
    jobs = collection(store, "jobs")
    journal = Journal(jobs, "x")
    journal.submit(toy.everything(tmp_path / "notes", 0.0))
    assert journal.submitted()
    jobs.remove_docs({"job_id": journal.entries()[3].job_id})
    assert not journal.submitted()
    journal.submit(toy.everything(tmp_path / "notes", 0.0))
    assert journal.submitted()
    assert [entry.order for entry in journal.entries()] == list(range(8))
