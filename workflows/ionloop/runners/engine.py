"""What every workflow engine does for a run: one interface, one table of job states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobflow.core.flow import Flow

    from ionloop.makers.base import Placement


class JobState(StrEnum):
    """State of a job, in the same words for every engine."""

    WAITING = "waiting"
    """For other jobs, or for somebody to take it."""
    QUEUED = "queued"
    """Handed to a queue, which has not started it."""
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PAUSED = "paused"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class JobRow:
    """One job in the table of states.

    Attributes
    ----------
    job_id
        The engine's own name of the job.
    uuid, index
        jobflow's.
    name, role, iteration
        What the job is for.
    state
        Where it stands.
    worker
        Who runs it: a FireWorker, a worker of jobflow-remote, a host.
    queue_id
        Number of the job in the queue that runs it; None where there is no queue.
    tries
        How often it was started.
    error
        The last sentence of what went wrong; None if nothing did.
    started, ended
        ISO 8601, UTC.
    """

    job_id: str
    uuid: str
    index: int
    name: str
    role: str
    state: JobState
    iteration: int | None = None
    worker: str | None = None
    queue_id: str | None = None
    tries: int = 0
    error: str | None = None
    started: str | None = None
    ended: str | None = None


class EngineError(RuntimeError):
    """An engine refuses a request; the message says why and what to do."""


class Engine(Protocol):
    """Runs flows, here or on a queue.

    Every change is made by the engine's own means, so that its own tools show it too.
    """

    def check(self, placement: Placement) -> list[str]:
        """Return what stands against running with this placement, a sentence each."""

    def submit(self, flow: Flow, run: str, placement: Placement) -> None:
        """Hand a flow over and return at once."""

    def jobs(self, run: str) -> list[JobRow]:
        """Return all jobs of a run, in the order in which they came."""

    def retry(self, run: str, role: str | None = None, error: str | None = None) -> int:
        """Try failed jobs again, also those whose worker was lost; return how many.

        Parameters
        ----------
        run
            Id of the run.
        role
            Only jobs of this role.
        error
            Only jobs whose error holds this text.
        """

    def pause(self, run: str) -> int:
        """Hold what has not begun; return how many jobs."""

    def proceed(self, run: str) -> int:
        """Release what was held; return how many jobs."""

    def cancel(self, run: str) -> int:
        """End what runs and what waits, for good; return how many jobs."""

    def place(self, run: str, placement: Placement) -> int:
        """Give what has not begun, and all that follows, other resources; return how many jobs."""


def concerned(rows: Iterable[JobRow], role: str | None, error: str | None) -> list[JobRow]:
    """Return the failed jobs that a retry is for."""
    return [
        row
        for row in rows
        if row.state is JobState.FAILED
        and (role is None or row.role == role)
        and (error is None or error.lower() in (row.error or "").lower())
    ]


def prepare(flow: Flow, run: str, store_url: str, placement: Placement) -> Flow:
    """Give every job of a flow, and all that follow, its run, its store and its place; return it.

    Parameters
    ----------
    flow
        A new flow.
    run
        Id of the run.
    store_url
        URL of the run's store, environment variables not expanded.
    placement
        Configuration of the engine by role.
    """
    from ionloop.makers.base import place

    belongs = {"run": run, "store": store_url, "placement": dict(placement)}
    flow.update_metadata(belongs, dynamic=True)
    for job, _ in flow.iterflow():  # type: ignore[no-untyped-call]
        place(job, placement)
    return flow
