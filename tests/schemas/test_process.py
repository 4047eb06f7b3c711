"""Whether a process lives that is written down: one answer for the engines and the monitor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from ionloop.schemas.process import CLOCK_DRIFT, STALE, alive, identity, lives


def silent_for(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_this_process_lives_whatever_its_heartbeat() -> None:
    assert lives(identity())
    assert lives(identity() | {"heartbeat": silent_for(10 * STALE)})


@pytest.mark.parametrize(("drift", "living"), [(0.8, True), (-0.8, True), (1.2, False)])
def test_the_clock_may_drift(drift: float, living: bool) -> None:
    me = identity()
    me["process_created"] += drift * CLOCK_DRIFT
    assert lives(me) is living


def test_a_later_process_with_the_same_id_is_another_one() -> None:
    assert not lives(identity() | {"process_created": 1.0})


def test_a_process_that_ended_is_gone_even_before_its_parent_looks() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        created = psutil.Process(child.pid).create_time()
        deadline = time.monotonic() + 20
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert os.kill(child.pid, 0) is None  # its id is still taken
        assert not alive(child.pid, created)
    assert not alive(child.pid, created)


@pytest.mark.parametrize(("silence", "living"), [(STALE - 9, True), (STALE + 9, False)])
@pytest.mark.parametrize("changes", [{}, {"pid": 2**22 + 1, "process_created": 1.0}])
def test_on_another_host_the_heartbeat_counts_alone(
    silence: float, living: bool, changes: dict[str, Any]
) -> None:
    there = identity() | {"host": "node7", "heartbeat": silent_for(silence), **changes}
    assert lives(there) is living
