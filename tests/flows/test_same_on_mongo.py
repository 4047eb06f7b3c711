"""The same run file gives the same numbers on the embedded store and on a MongoDB server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from ionloop.schemas.exploration import ExplorationDoc
from ionloop.schemas.label import LabelDoc
from ionloop.schemas.selection import SelectionDoc
from ionloop.stores.connect import collection

MONGO = os.environ.get("IONLOOP_TEST_MONGO_URI")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(MONGO is None, reason="IONLOOP_TEST_MONGO_URI is not set"),
]


@pytest.fixture
def database() -> Iterator[str]:
    """Name a new database on the server; drop it afterwards."""
    from pymongo import MongoClient

    name = f"ionloop_test_{uuid4().hex[:12]}"
    yield f"{MONGO}/{name}"
    with MongoClient(MONGO) as client:
        client.drop_database(name)


def counts(place: Any) -> dict[str, int]:
    """Count what is in every collection; a server splits its blobs in other pieces."""
    # Without criteria a server only estimates the number from its statistics.
    with place.opened() as store:
        parts = {name: collection(store, name) for name in ("outputs", "labels", "jobs")}
        return {name: part.count({part.key: {"$exists": True}}) for name, part in parts.items()}


def by_key(place: Any) -> dict[str, LabelDoc]:
    return {f"{label.frame_id}-{label.level}": label for label in place.labels()}


def test_same_numbers_on_both_stores(
    database: str, new_place: Callable[..., Any], finished_toy: Any
) -> None:
    file, server = finished_toy, new_place(database)
    server.write()
    server.run("run", "run.yaml")

    assert counts(file) == counts(server)
    for kind in (SelectionDoc, ExplorationDoc):
        assert len(file.documents(kind)) == len(server.documents(kind)) > 1
    for a, b in zip(file.documents(SelectionDoc), server.documents(SelectionDoc), strict=True):
        assert (a.picks, a.counts) == (b.picks, b.counts)
    for a, b in zip(file.turns(), server.turns(), strict=True):
        assert (a.decision, a.dataset) == (b.decision, b.dataset)
    check_labels(by_key(file), by_key(server))
    check_summaries(file.summary(), server.summary())


def check_labels(file: dict[str, LabelDoc], server: dict[str, LabelDoc]) -> None:
    assert file.keys() == server.keys()
    for key, label in file.items():
        other = server[key]
        assert (label.status, label.reason, label.energy) == (
            other.status,
            other.reason,
            other.energy,
        )
        np.testing.assert_array_equal(label.frame.forces, other.frame.forces)


def check_summaries(file: Any, server: Any) -> None:
    for name in ("converged", "reason", "n_turns", "n_labels", "n_accepted", "accurate_fractions"):
        assert getattr(file, name) == getattr(server, name)
    pairs = [(file.validation.errors, server.validation.errors)]
    pairs += zip(file.train_errors, server.train_errors, strict=True)
    for a, b in pairs:
        assert a.model_dump() == pytest.approx(b.model_dump(), rel=1e-6)
