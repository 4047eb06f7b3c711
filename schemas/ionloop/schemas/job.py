"""A job of a run as every workflow engine shows it."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator

from ionloop.schemas.document import Model

STORE_INPUTS = "store_inputs"
"""Name of the job that jobflow adds to a flow that replaces a job. It passes the last output on, so
it may end long after the turn that it belongs to."""


class JobState(StrEnum):
    """State of a job, with the same names for every engine."""

    WAITING = "waiting"
    """For other jobs, or for a worker."""
    QUEUED = "queued"
    """Submitted to a queue, which has not started it."""
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """Will not run: a job before it failed."""


def in_utc(moment: datetime) -> datetime:
    """Return a time with its time zone; without one it is in UTC, as engines write it."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def clock(seconds: float) -> str:
    """Return a time in s as hours:minutes:seconds, however many hours it has."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


Moment = Annotated[datetime, AfterValidator(in_utc)]


class JobRow(Model):
    """One job in the table of states."""

    job_id: str
    """the engine's own name of the job"""
    uuid: str = ""
    """jobflow's"""
    index: int = 1
    """jobflow's"""
    name: str
    role: str
    state: JobState
    iteration: int | None = None
    worker: str | None = None
    """who runs it: a FireWorker, a worker of jobflow-remote, a host"""
    queue_id: str | None = None
    """number in the queue that runs it"""
    tries: int = 0
    """how often it was started"""
    error: str | None = None
    """the last sentence of what went wrong"""
    started: Moment | None = None
    ended: Moment | None = None
    folder: str | None = None
    """where its files are"""
