"""A label that is late for its turn joins the next, or the end of the last: in a whole run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ionloop.schemas.label import Labels, LabelStatus
from ionloop.schemas.potential import EnsembleDoc

pytestmark = pytest.mark.integration


def test_production_is_trained_on_what_was_late_in_the_last_turn(
    new_place: Callable[..., Any],
) -> None:
    place = new_place()
    options = {"seconds": 0.2, "slow_every": 5, "slow_seconds": 12.0}
    stage = {"temperatures": [300, 600], "steps": 60, "max_turns": 1}
    place.write(label={"batch_size": 1, "quorum": 0.9, "options": options}, stages=[stage])
    place.run("run", "run.yaml")

    parts: list[Labels] = place.documents(Labels)
    (late,) = {frame_id for part in parts for frame_id in part.late}
    (label,) = (label for label in place.labels() if label.frame_id == late)
    assert label.status is LabelStatus.ACCEPTED
    (turn,) = place.turns()
    assert late in turn.dataset.training + turn.dataset.validation
    in_turn, in_production = place.documents(EnsembleDoc)
    assert in_production.train_errors[0].n_frames > in_turn.train_errors[0].n_frames
    assert turn.n_training_frames == len(turn.dataset.training + turn.dataset.validation)
    assert max(place.calculated().values()) == 1
    summary = place.summary()
    accepted = [label for label in place.labels() if label.status is LabelStatus.ACCEPTED]
    assert (summary.n_labels, summary.n_accepted) == (len(place.labels()), len(accepted))
