"""A label that is late for its turn joins the data set of the next, in a whole run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ionloop.schemas.label import Labels, LabelStatus

pytestmark = pytest.mark.integration


def test_a_late_initial_label_joins_the_data_set(new_place: Callable[..., Any]) -> None:
    place = new_place()
    options = {"seconds": 0.2, "slow_every": 5, "slow_seconds": 12.0}
    place.write(label={"batch_size": 1, "quorum": 0.9, "options": options})
    place.run("run", "run.yaml")

    parts: list[Labels] = place.documents(Labels)
    (late,) = {frame_id for part in parts for frame_id in part.late}
    (label,) = (label for label in place.labels() if label.frame_id == late)
    assert label.status is LabelStatus.ACCEPTED
    first, second = (turn.dataset for turn in place.turns()[:2])
    assert late not in first.training + first.validation
    assert late in second.training + second.validation
    assert max(place.calculated().values()) == 1
    assert place.summary().n_labels == len(place.labels())
