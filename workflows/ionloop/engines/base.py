"""What every workflow engine does for a run: one interface, the same job states."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from jobflow.core.flow import Flow

from ionloop.jobs.placement import Placement, place, place_of
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.job import STORE_INPUTS, JobRow, JobState

BOOKKEEPING = {"light": True}
"""Metadata of a bookkeeping job, which needs the store and hardly any time."""

Key = TypeVar("Key")


class EngineError(IonloopError, RuntimeError):
    """An engine refuses a request; the message says why and what to do."""


class Engine(Protocol):
    """Runs flows, here or on a queue.

    Every change is made through the engine's own functions, so that its own tools show it too.
    """

    def check(self, placement: Placement) -> list[str]:
        """Return the problems that prevent running with this placement, a sentence each."""

    def submit(self, flow: Flow, run: str, placement: Placement) -> None:
        """Hand a flow to the engine and return at once.

        Parameters
        ----------
        flow
            What to run.
        run
            Id of the run, new to the engine.
        placement
            Configuration of the engine by role.
        """

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
            Only jobs whose error contains this text.
        """

    def recover(self, run: str) -> int:
        """Start jobs again that lost their worker, if tries are left; return how many."""

    def pause(self, run: str) -> int:
        """Hold jobs that have not begun; return how many."""

    def proceed(self, run: str) -> int:
        """Release jobs that were held; return how many."""

    def cancel(self, run: str) -> int:
        """End all jobs that run or wait, for good; return how many."""

    def place(self, run: str, placement: Placement) -> int:
        """Give jobs that have not begun, and all that follow, other resources; return how many.

        Parameters
        ----------
        run
            Id of the run.
        placement
            Configuration of the engine by role.
        """


def concerned(rows: Iterable[JobRow], role: str | None, error: str | None) -> list[JobRow]:
    """Return the failed jobs that a retry is for.

    Parameters
    ----------
    rows
        All jobs of a run.
    role
        Only jobs of this role; None for all.
    error
        Only jobs whose error contains this text; None for all.
    """
    return [
        row
        for row in rows
        if row.state is JobState.FAILED
        and (role is None or row.role == role)
        and (error is None or error.lower() in (row.error or "").lower())
    ]


def descendants(first: Key, children: Mapping[Key, Iterable[Key]]) -> set[Key]:
    """Return all that follows from a job, directly or not.

    Parameters
    ----------
    first
        The job.
    children
        Job → those that wait for it.
    """
    found: set[Key] = set()
    front = [first]
    while front:
        new = set(children.get(front.pop(), ())) - found
        found |= new
        front.extend(new)
    return found


def last_sentence(stack: str) -> str:
    r"""Return what a traceback ends with: the exception, and the first line of what it says.

    Examples
    --------
    >>> last_sentence("Traceback (most recent call last):\n  File 'a.py'\nKeyError: 'x'\n")
    "KeyError: 'x'"
    """
    last = stack.rpartition("Traceback (most recent call last):")[2]
    lines = last.strip("\n").splitlines() or ["no message"]
    frames = [k for k, line in enumerate(lines) if re.match(r'\s+File "', line)]
    after = [line for line in lines[frames[-1] if frames else 0 :] if line[:1].strip()]
    return (after or lines[-1:])[0].strip()


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
    belongs = {"run": run, "store": store_url, "placement": dict(placement)}
    flow.update_metadata(belongs, dynamic=True)
    # Otherwise what replaces a job takes the place of that job, whatever its role; and the job
    # that jobflow adds to a replacement has no role to be placed by.
    flow.update_config({"pass_manager_config": False}, dynamic=True)
    if own := place_of(BOOKKEEPING, placement):
        config = {"pass_manager_config": False, "manager_config": dict(own)}
        flow.update_config(config, name_filter=STORE_INPUTS, dynamic=True)
    for job, _ in flow.iterflow():  # type: ignore[no-untyped-call]
        place(job, placement)
    return flow
