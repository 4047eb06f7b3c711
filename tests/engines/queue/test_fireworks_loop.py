"""The whole loop with real programs through FireWorks ends as the local run does."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from books import place_of
from fireworks_site import marks, needs_slurm, opened_site, states, wait_until

from ionloop.runfile.reading import load
from ionloop.schemas.job import JobState
from ionloop.schemas.selection import SelectionDoc

TESTS = Path(__file__).parents[2]

pytestmark = [*marks, needs_slurm]

PLACEMENT = {
    "default": {"_fworker": "cpu"},
    "select": {"_fworker": "books"},
    "train": {"_fworker": "gpu"},
    "explore": {"_fworker": "gpu"},
}


def test_loop_through_the_queue_ends_as_the_local_run(local: Any, tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    log = {"TOY_LOG": str(tmp_path / "queue" / "log")}
    with opened_site(tmp_path / "queue", modules=(TESTS / "toy",), variables=log) as site:
        queue = place_of(site.folder, site.store)
        queue.write(store=site.store)
        engine = site.engine()
        engine.submit(load(site.folder / "run.yaml").flow(), "toy", PLACEMENT)
        site.rlaunch("books")
        for worker in ("cpu", "gpu"):
            site.qlaunch(worker)
        done = {JobState.COMPLETED}
        wait_until(lambda: settled(engine.jobs("toy")), site, 1200)
        assert set(states(engine.jobs("toy"))) == done, engine.jobs("toy")
        compare(local, queue)
        check_rows(engine.jobs("toy"))


def settled(rows: list[Any]) -> bool:
    return bool(set(states(rows)) & {JobState.FAILED}) or set(states(rows)) == {JobState.COMPLETED}


def compare(local: Any, queue: Any) -> None:
    assert queue.calculated() == local.calculated()
    assert set(queue.calculated().values()) == {1}
    for a, b in zip(local.documents(SelectionDoc), queue.documents(SelectionDoc), strict=True):
        assert (a.picks, a.counts) == (b.picks, b.counts)
    for a, b in zip(local.turns(), queue.turns(), strict=True):
        assert (a.decision, a.dataset) == (b.decision, b.dataset)
    assert len({label.label_id for label in queue.labels()}) == len(local.labels())
    a, b = local.summary(), queue.summary()
    for name in ("converged", "reason", "n_turns", "n_labels", "n_accepted", "accurate_fractions"):
        assert getattr(a, name) == getattr(b, name)
    assert a.validation.errors.model_dump() == pytest.approx(
        b.validation.errors.model_dump(), rel=1e-6
    )


def check_rows(rows: list[Any]) -> None:
    assert Counter(row.tries for row in rows) == {1: len(rows)}
    assert {row.worker for row in rows if row.role == "train"} <= {"gpu", "books"}
    assert all(row.queue_id for row in rows if row.worker != "books")
    assert {row.worker for row in rows} == {"books", "cpu", "gpu"}
