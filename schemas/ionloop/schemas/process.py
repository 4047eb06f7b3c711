"""A process that is written down in the store, and whether it lives: one rule for all who ask."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psutil

HEARTBEAT = 30.0
"""Time from one heartbeat of a process at work to the next, s."""

STALE = 5 * HEARTBEAT
"""Silence after which a process on another host counts as gone, s."""

CLOCK_DRIFT = 5.0
"""How far two readings of a process's creation time may lie apart, s: they move with the clock."""


def identity() -> dict[str, Any]:
    """Return what this process is written down with: host, id, time of creation, heartbeat."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_created": psutil.Process().create_time(),
        "heartbeat": datetime.now(UTC).isoformat(),
    }


def lives(process: Mapping[str, Any]) -> bool:
    """Tell whether a process that is written down lives.

    Parameters
    ----------
    process
        Its `identity`. On this host the process itself is looked at; on another one it counts as
        gone `STALE` seconds after its last heartbeat.
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
