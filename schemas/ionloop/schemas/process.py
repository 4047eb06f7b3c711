"""The record of a process in the store, and the one rule that tells whether it is alive."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psutil

HEARTBEAT = 30.0
"""Time between two heartbeats of a running process, s."""

STALE = 5 * HEARTBEAT
"""Time without a heartbeat after which a process on another host counts as dead, s."""

CLOCK_DRIFT = 5.0
"""How much two readings of the creation time of one process may differ, s: clocks are adjusted."""


def identity() -> dict[str, Any]:
    """Return the record of this process: host, id, creation time, heartbeat."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_created": psutil.Process().create_time(),
        "heartbeat": datetime.now(UTC).isoformat(),
    }


def lives(process: Mapping[str, Any]) -> bool:
    """Tell whether the process of a record is alive.

    Parameters
    ----------
    process
        Its record, as `identity` made it. On this host the process itself is looked up; on another
        host it counts as dead `STALE` seconds after its last heartbeat.
    """
    if process["host"] == socket.gethostname():
        return alive(process["pid"], process["process_created"])
    silence = datetime.now(UTC) - datetime.fromisoformat(process["heartbeat"])
    return silence.total_seconds() < STALE


def alive(pid: int, created: float) -> bool:
    """Tell whether a process of this host is alive.

    Parameters
    ----------
    pid
        Its id; a later process may have the same one.
    created
        Its creation time, seconds since the epoch, which a later process has not.
    """
    try:
        process = psutil.Process(pid)
        same = bool(abs(process.create_time() - created) < CLOCK_DRIFT)
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
