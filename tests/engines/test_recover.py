"""A run that failed is brought into a state to start from."""

from __future__ import annotations

from typing import Any

import pytest
from maggma.stores import MemoryStore

from ionloop.engines.local.journal import Journal
from ionloop.engines.local.runner import recover
from ionloop.engines.local.schedule import ready, skips

RUN = "a run"
FLOOR = "account failed: FloorError: 17 of 20 labels were accepted"


def job(uuid: str, state: str, error: str = "", **changes: Any) -> dict[str, Any]:
    plain = {"job_id": f"{uuid}-1", "run": RUN, "uuid": uuid, "index": 1, "name": uuid}
    plain |= {"role": "label", "iteration": 2, "state": state, "cores": 1, "tries": 1, "order": 0}
    plain |= {"parents": [], "holds": [], "tolerant": False, "error": {"summary": error}}
    return plain | changes


@pytest.fixture
def journal() -> Journal:
    """Return the journal of a turn that lost three labels, of which nothing waits."""
    store = MemoryStore("jobs", key="job_id")
    store.connect()
    lost = [job(f"batch {i}", "failed", "the labeller raised") for i in range(3)]
    account = job("account", "failed", FLOOR, parents=["wait"])
    decision = job("decide", "skipped", parents=["account"], role="decide")
    store.update([job("wait", "completed"), *lost, account, decision], key="job_id")
    return Journal(store, RUN)


def able(journal: Journal) -> list[str]:
    return sorted(entry.name for entry in ready(journal.entries()))


def test_labels_that_are_tried_again_are_counted_when_they_are_through(journal: Journal) -> None:
    recover(journal, None, retry_failed=True)  # nothing to complete
    assert able(journal) == ["batch 0", "batch 1", "batch 2"]
    for number, state in enumerate(["completed", "completed", "failed"]):
        journal.change(f"batch {number}-1", state=state)
    assert able(journal) == ["account"]
    assert not skips(journal.entries())


def test_without_a_retry_the_account_is_judged_at_once(journal: Journal) -> None:
    recover(journal, None, retry_failed=False)  # nothing to complete
    assert able(journal) == ["account"]
