"""A loop that uses what the plain toy run does not; its numbers are checked against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jobflow import JobStore

from ionloop.monitor.records import summary
from ionloop.monitor.turns import iterations
from ionloop.schemas.exploration import ExplorationDoc
from ionloop.schemas.iteration import Action
from ionloop.schemas.label import Labels

pytestmark = pytest.mark.integration

STAGES = Path(__file__).parents[1] / "toy" / "stages.yaml"


@pytest.fixture(scope="module")
def finished(new_place: Callable[..., Any]) -> Iterator[JobStore]:
    place = new_place()
    place.run("run", str(STAGES))
    with place.opened() as store:
        yield store


def explorations(store: JobStore) -> list[ExplorationDoc]:
    found = store.query({"output.@class": "ExplorationDoc", "metadata.iteration": {"$gte": 0}})
    documents = [ExplorationDoc.from_stored(document["output"]) for document in found]
    return sorted(documents, key=lambda document: document.iteration or 0)


def test_the_stages_follow_each_other(finished: JobStore) -> None:
    turns = iterations(finished, "stages")
    assert [(turn.stage, turn.turn_of_stage) for turn in turns][:2] == [(0, 0), (1, 0)]
    assert turns[0].decision.action is Action.NEXT_STAGE
    assert turns[-1].decision.action is Action.STOP


def test_the_limit_on_labels_holds_with_the_validation_inside(finished: JobStore) -> None:
    end = summary(finished, "stages")
    assert end is not None
    assert end.n_labels <= 24
    assert end.validation is not None
    assert end.validation.n_requested == 3


def test_each_stage_has_its_own_conditions(finished: JobStore) -> None:
    first, second, *rest = explorations(finished)
    assert len(first.trajectories) == 2  # two start structures
    assert len(second.trajectories) == 2 * 2 * 2
    assert (second.trust.low, second.stage.ensemble) == (0.04, "npt-tri")
    # A continued turn has as many trajectories, and starts none of them where the first did.
    for turn in rest:
        assert len(turn.trajectories) == len(second.trajectories)
        starts = {t.start_id for t in turn.trajectories}
        assert not starts & {t.start_id for t in second.trajectories}


def test_labels_of_both_compositions_and_of_supercells_are_bought(finished: JobStore) -> None:
    found = finished.query({"output.@class": "Labels"}, load=True)
    sizes = {
        part.n_atoms for stored in found for part in Labels.from_stored(stored["output"]).frames
    }
    assert sizes == {8, 16}
    formulas = finished.docs_store.distinct("output.frames.formula")
    assert {"Au4Cu4", "Au2Cu6"} <= set(formulas)


def test_start_structures_were_relaxed(finished: JobStore) -> None:
    assert finished.count({"name": "relax"}) == 1
