"""A run in the background of this machine: submitted, paused, resumed, cancelled, retried."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from ionloop.schemas.run import RunState

pytestmark = pytest.mark.integration

ONE_TURN = [{"temperatures": [300, 600], "steps": 60, "dump_every": 10, "max_turns": 1}]


def states(place: Any) -> set[str]:
    rows = json.loads(place.run("status", "toy", "--json"))["jobs"]["rows"]
    return {row["state"] for row in rows}


def await_state(place: Any, *wanted: RunState, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while place.state() not in wanted:
        assert time.monotonic() < deadline, place.state()
        time.sleep(0.2)


def await_running(place: Any, name: str) -> None:
    deadline = time.monotonic() + 120
    while name not in place.run("status", "toy").partition("running:")[2]:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_submitted_paused_resumed_to_the_end(new_place: Callable[..., Any]) -> None:
    place = new_place()
    place.write(stages=ONE_TURN)
    begun = time.monotonic()
    assert "run toy is submitted to local" in place.run("submit", "run.yaml")
    assert time.monotonic() - begun < 60
    await_running(place, "train model")

    assert "held" in place.run("pause", "toy")
    await_state(place, RunState.INTERRUPTED)
    assert states(place) == {"completed", "waiting"}
    assert "at work" not in place.run("status", "toy")

    place.run("resume", "toy")
    await_state(place, RunState.COMPLETED)
    assert states(place) == {"completed"}
    assert max(place.calculated().values()) == 1
    table = place.run("status", "toy", "--jobs")
    assert table.count("completed") > 30


def test_cancelled_for_good(new_place: Callable[..., Any]) -> None:
    place = new_place()
    place.write()
    place.run("submit", "run.yaml")
    await_running(place, "train model")
    assert "is at work: pause it first" in place.run("cancel", "toy", code=2)
    place.run("pause", "toy")
    await_state(place, RunState.INTERRUPTED)
    assert "cancelled" in place.run("cancel", "toy")
    assert place.state() is RunState.CANCELLED
    assert states(place) == {"completed", "cancelled"}
    assert "was cancelled; a new run takes its labels" in place.run("retry", "toy", code=2)
    assert "was cancelled" in place.run("resume", "toy", code=2)


def test_only_what_failed_so_is_tried_again(new_place: Callable[..., Any]) -> None:
    place = new_place()
    place.write(label={"options": {"raise_every": 1}})
    place.run("run", "run.yaml", code=1)
    assert place.run("retry", "toy", "--role", "train") == "0 job(s) tried again\n"
    assert place.run("retry", "toy", "--error", "disk is full") == "0 job(s) tried again\n"
    assert place.run("retry", "toy", "--role", "label", "--error", "asked to fail") == (
        "3 job(s) tried again\n"
    )
    await_state(place, RunState.FAILED, RunState.RUNNING)
    await_state(place, RunState.FAILED)
