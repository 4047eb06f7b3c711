"""Two whole loops that start at the same moment on one store share its labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from ionloop.stores.connect import collection

MONGO = os.environ.get("IONLOOP_TEST_MONGO_URI")

pytestmark = pytest.mark.integration


@pytest.fixture(params=["embedded", "mongo"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Name a store; None is a new file."""
    if request.param == "embedded":
        yield None
        return
    if MONGO is None:
        pytest.skip("IONLOOP_TEST_MONGO_URI is not set")
    from pymongo import MongoClient

    name = f"ionloop_test_{uuid4().hex[:12]}"
    yield f"{MONGO}/{name}"
    with MongoClient(MONGO) as client:
        client.drop_database(name)


def test_two_loops_started_at_once_on_one_store_calculate_every_frame_once(
    url: str | None, new_place: Callable[..., Any]
) -> None:
    one = new_place(url)
    places = [one, new_place(one.store)]
    for place in places:
        place.write(
            cores=1,
            initial={"n_perturbed": 8},
            # So long that the one that is ahead cannot have done all before the other begins.
            label={"batch_size": 4, "options": {"seconds": 1.0}},
            train={"steps": 20, "warm_steps": 20},
            stages=[{"temperatures": [300], "steps": 20, "n_structures": 1, "max_turns": 1}],
            production={"steps": 20},
            validation={"n_frames": 2, "steps": 20, "n_structures": 2},
        )
    started = [place.start("run", "run.yaml") for place in places]
    for place, process in zip(places, started, strict=True):
        place.ends(process, 0)

    calculated = places[0].calculated() + places[1].calculated()
    labels = one.labels()
    assert len(labels) == calculated.total() > 8
    assert set(calculated.values()) == {1}
    assert all(place.calculated() for place in places), "only one of them calculated"
    with one.opened() as store:
        names = {each["run"] for each in collection(store, "runs").query({"name": "toy"})}
        assert collection(store, "claims").count({"label_id": {"$exists": True}}) == 0
    assert names == {"toy", "toy-2"}
