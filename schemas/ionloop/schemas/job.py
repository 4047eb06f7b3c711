"""A job of a run as every workflow engine shows it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self

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

    @classmethod
    def from_journal(cls, entry: dict[str, Any]) -> Self:
        """Return the row of an entry of the local runner's journal."""
        state, error = entry["state"], entry.get("error") or {}
        return cls(
            **{name: entry[name] for name in _SHARED if name in entry},
            state=JobState.RUNNING if state == "finished" else JobState(state),
            worker=entry.get("host"),
            error=error.get("summary"),
        )


# The journal has them under the same names.
_SHARED = JobRow.model_fields.keys() - {"state", "worker", "queue_id", "error"}

JOURNAL_FIELDS = [*_SHARED, "state", "host", "error", "order"]
"""The fields of a journal entry that a row needs, and its place in the order."""


def journal_table(entries: Iterable[dict[str, Any]]) -> list[JobRow]:
    """Return the rows of a run's entries in the local runner's journal, in their order."""
    return [JobRow.from_journal(each) for each in sorted(entries, key=lambda each: each["order"])]
