"""Several trainings and trajectories in one job: another structure of jobs, the same results."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ionloop.schemas.potential import EnsembleDoc
from ionloop.schemas.selection import SelectionDoc
from ionloop.stores.connect import collection

pytestmark = pytest.mark.integration

STAGE = {"temperatures": [300, 600], "steps": 60, "dump_every": 10, "n_structures": 1}


def test_the_same_picks_from_shared_jobs(
    finished_toy: Any, new_place: Callable[..., Any], toy: Any
) -> None:
    place = new_place()
    place.write(
        train={"per_gpu": 2},
        explore={"per_gpu": 2},
        production={"n_models": 2},
        stages=[{**STAGE, "max_turns": 1}],
    )
    place.run("run", "run.yaml")
    with place.opened() as store:
        names = collection(store, "jobs").distinct("name", {"name": {"$regex": "train model"}})
    assert sorted(names) == ["production train models 1 to 2 of 2", "train models 1 to 2 of 2"]
    (alone, *_), (together, *_) = (each.documents(EnsembleDoc) for each in (finished_toy, place))
    assert together.train_errors == alone.train_errors
    (first, *_), (shared, *_) = (each.documents(SelectionDoc) for each in (finished_toy, place))
    assert len(shared.picks) == 5
    assert shared.picks == first.picks

    place.run("export", "toy", "models", "--out", "models")
    account = json.loads((place.folder / "models/potential.json").read_text())
    assert len({model["sha256"] for model in account["models"]}) == 2
