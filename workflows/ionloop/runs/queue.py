"""Runs on a workflow engine: submit them, watch them, pause, retry and cancel them."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

from ionloop.engines.resources import EngineName, ResourceTable
from ionloop.jobs.placement import Role
from ionloop.jobs.roles import FloorError
from ionloop.runfile.engine import engine_of
from ionloop.runfile.model import RunFile
from ionloop.runs.launch import record_changes, take_over
from ionloop.runs.records import enter, is_there, known, marked, set_state, summary
from ionloop.schemas.errors import InputError
from ionloop.schemas.job import JobRow, JobState
from ionloop.schemas.run import RunState, SummaryDoc

LOOK_SECONDS = 10.0
"""How often a run that is followed is looked at, in s."""


RECOVER_EVERY = 6
"""Looks from one search for lost jobs to the next."""


LOOKS_AT_STANDSTILL = 12
"""Looks after which a run counts as failed, if a job has failed and no other is on its way:
a job that is ready may wait a while for a worker to take it."""


def submit(run_file: RunFile, *, or_resume: bool = False) -> str:
    """Submit a run to its engine and return its id at once.

    Parameters
    ----------
    run_file
        What to run. Its name is the id of the run, with -2, -3, … behind it if it is taken.
    or_resume
        Go on with the run of that name instead, if there is one.

    Raises
    ------
    EngineError, StoreError
        If the engine or the store refuses.
    """
    if or_resume and is_there(run_file):
        take_over(run_file.store, run_file.name, run_file)
        return proceed(run_file.store, run_file.name)
    flow = run_file.flow()
    run = enter(run_file)
    engine_of(run_file).submit(marked(flow, run), run, run_file.placement)
    return run


def proceed(store_url: str, run: str | None = None, *, retry_failed: bool = False) -> str:
    """Continue a run on its engine: submit it if it was not, release what was held.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run; the latest by default.
    retry_failed
        Whether to try failed jobs again.

    Returns
    -------
    str
        Id of the run.

    Raises
    ------
    UnknownRunError, RunEndedError
        If there is no such run, or it was cancelled.
    """
    run, run_file = known(store_url, run)
    engine = engine_of(run_file)
    if engine.jobs(run):
        engine.proceed(run)
        # What failed by a tolerance is judged again by what is in force now.
        engine.retry(run, error=None if retry_failed else FloorError.__name__)
    else:
        engine.submit(marked(run_file.flow(), run), run, run_file.placement)
    set_state(store_url, run, RunState.RUNNING)
    return run


def jobs(store_url: str, run: str) -> list[JobRow]:
    """Return all jobs of a run as its engine shows them.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    """
    run, run_file = known(store_url, run, ended=True)
    return engine_of(run_file).jobs(run)


def retry(store_url: str, run: str, role: str | None = None, error: str | None = None) -> int:
    """Try failed and lost jobs again; return how many.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run.
    role
        Only jobs of this role.
    error
        Only jobs whose error contains this text.

    Raises
    ------
    InputError
        If there is no such role.
    """
    run, run_file = known(store_url, run)
    if role is not None and role not in list(Role):
        raise InputError(f"there is no role {role!r}; choose one of {', '.join(sorted(Role))}")
    n = engine_of(run_file).retry(run, role, error)
    if n:
        set_state(store_url, run, RunState.RUNNING)
    return n


def recover(store_url: str, run: str) -> int:
    """Start jobs again that lost their worker; return how many.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run.
    """
    run, run_file = known(store_url, run)
    return engine_of(run_file).recover(run)


def pause(store_url: str, run: str) -> int:
    """Hold what has not begun; return how many jobs.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run.
    """
    run, run_file = known(store_url, run)
    n = engine_of(run_file).pause(run)
    if run_file.runner != "local":  # the local runner writes how it ended
        set_state(store_url, run, RunState.PAUSED)
    return n


def cancel(store_url: str, run: str) -> int:
    """End a run for good; what is in the store stays there. Return how many jobs ended.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run.
    """
    run, run_file = known(store_url, run)
    n = engine_of(run_file).cancel(run)
    set_state(store_url, run, RunState.CANCELLED)
    return n


def place(store_url: str, run: str, resources: ResourceTable) -> int:
    """Give what has not begun, and all that follows, other resources; return how many jobs.

    The jobs stay the same, and nothing is calculated twice: only their place changes.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run.
    resources
        What the jobs of each role ask of a queue.
    """
    run, run_file = known(store_url, run)
    moved = run_file.model_copy(update={"resources": resources})
    n = engine_of(moved).place(run, moved.placement)
    record_changes(store_url, run, moved)
    return n


def follow(
    store_url: str,
    run: str,
    report: Callable[[list[JobRow]], None],
    seconds: float = LOOK_SECONDS,
) -> SummaryDoc | None:
    """Wait for a run to end, and start lost jobs again meanwhile.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run.
    report
        Is called with all jobs at every look.
    seconds
        Time between looks, s.

    Returns
    -------
    SummaryDoc or None
        What the run ended with, None if it failed.
    """
    run, run_file = known(store_url, run, ended=True)
    engine = engine_of(run_file)
    still = 0
    for look in count():
        found = summary(store_url, run)
        rows = engine.jobs(run)
        report(rows)
        if found:
            set_state(store_url, run, RunState.COMPLETED)
            return found
        recovered = engine.recover(run) if look % RECOVER_EVERY == 0 else 0
        still = still + 1 if _is_stuck(rows) and not recovered else 0
        if still >= LOOKS_AT_STANDSTILL:
            break
        time.sleep(seconds)
    set_state(store_url, run, RunState.FAILED)
    return None


def engine_name(store_url: str, run: str | None) -> EngineName:
    """Return the name of the engine of a run.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run; the latest by default.
    """
    return known(store_url, run, ended=True)[1].runner


def _is_stuck(rows: list[JobRow]) -> bool:
    """Tell whether something failed and nothing else runs or waits for its turn."""
    states = {row.state for row in rows}
    moving = {JobState.RUNNING, JobState.QUEUED, JobState.PAUSED}
    return JobState.FAILED in states and not states & moving
