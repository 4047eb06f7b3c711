"""Several trainings and trajectories in one job: another structure of jobs, the same results."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ionloop.schemas.potential import EnsembleDoc
from ionloop.schemas.selection import SelectionDoc

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
    told = place.run("run", "run.yaml")
    assert "train models 1 to 2 of 2" in told
    first, *_ = finished_toy.documents(SelectionDoc)
    (alone, *_), (together, *_) = (each.documents(EnsembleDoc) for each in (finished_toy, place))
    assert together.train_errors == alone.train_errors
    (shared,) = place.documents(SelectionDoc)
    assert shared.picks == first.picks

    place.run("export", "toy", "models", "--out", "models")
    account = json.loads((place.folder / "models/potential.json").read_text())
    assert len({model["sha256"] for model in account["models"]}) == 2
