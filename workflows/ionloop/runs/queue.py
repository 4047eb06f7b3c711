"""Runs on a workflow engine: hand them over, look after them, change their course."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from ionloop.engines.resources import EngineName, ResourceTable
from ionloop.jobs.roles import FloorError
from ionloop.monitor.records import find_run
from ionloop.runfile.engine import engine_of
from ionloop.runfile.model import RunFile
from ionloop.runs import launch
from ionloop.runs.records import (
    enter,
    is_there,
    marked,
    refuse_cancelled,
    set_state,
    stored_run_file,
    summary,
)
from ionloop.schemas.errors import InputError
from ionloop.schemas.job import JobRow, JobState
from ionloop.schemas.run import Change, RunState, SummaryDoc
from ionloop.stores.connect import open_store

ROLES = ({*ResourceTable.model_fields} - {"default"}) | {"decide"}
"""Roles of the jobs of a run."""


LOOK_SECONDS = 10.0
"""How often a run that is followed is looked at, in s."""


RECOVER_EVERY = 6
"""Looks from one search for lost jobs to the next."""


LOOKS_AT_STANDSTILL = 12
"""Looks at a failure, and nothing that moves, after which a run counts as failed: a job that is
ready may wait a while for somebody to take it."""


def submit(run_file: RunFile, *, or_resume: bool = False) -> str:
    """Hand a run over to its engine and return its id at once.

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


def take_over(store_url: str, run: str | None, given: RunFile) -> list[Change]:
    """Take tolerances over from a changed run file; what has not begun gets its new place.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run; the latest by default.
    given
        The changed run file.

    Returns
    -------
    list[Change]
        What has changed.

    Raises
    ------
    UnknownRunError, RunEndedError
        If there is no such run, or it was cancelled.
    OtherSettingsError
        If something is changed that defines the run's results.
    """
    run, before = known(store_url, run)
    found = launch.take_over(store_url, run, given)
    now = known(store_url, run)[1]
    if before.placement != now.placement and (engine := engine_of(now)).jobs(run):
        engine.place(run, now.placement)
    return found


def proceed(store_url: str, run: str | None = None, *, retry_failed: bool = False) -> str:
    """Go on with a run on its engine: hand over what was not, release what was held.

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
    """Return the table of job states of a run.

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
        Only jobs whose error holds this text.

    Raises
    ------
    InputError
        If there is no such role.
    """
    run, run_file = known(store_url, run)
    if role is not None and role not in ROLES:
        raise InputError(f"there is no role {role!r}; choose one of {', '.join(sorted(ROLES))}")
    n = engine_of(run_file).retry(run, role, error)
    if n:
        set_state(store_url, run, RunState.RUNNING)
    return n


def recover(store_url: str, run: str) -> int:
    """Try again what was lost with its worker; return how many jobs."""
    run, run_file = known(store_url, run)
    return engine_of(run_file).recover(run)


def pause(store_url: str, run: str) -> int:
    """Hold what has not begun; return how many jobs."""
    run, run_file = known(store_url, run)
    n = engine_of(run_file).pause(run)
    if run_file.runner != "local":  # the local runner writes how it ended
        set_state(store_url, run, RunState.PAUSED)
    return n


def cancel(store_url: str, run: str) -> int:
    """End a run for good; what is in the store stays there. Return how many jobs ended."""
    run, run_file = known(store_url, run)
    n = engine_of(run_file).cancel(run)
    set_state(store_url, run, RunState.CANCELLED)
    return n


def place(store_url: str, run: str, resources: ResourceTable) -> int:
    """Give what has not begun, and all that follows, other resources; return how many jobs.

    Nothing that is in the store is bought again: the jobs stay the same, only their place changes.
    """
    run, run_file = known(store_url, run)
    moved = run_file.model_copy(update={"resources": resources})
    n = engine_of(moved).place(run, moved.placement)
    launch.take_over(store_url, run, moved)
    return n


def follow(
    store_url: str,
    run: str,
    report: Callable[[list[JobRow]], None],
    seconds: float = LOOK_SECONDS,
) -> SummaryDoc | None:
    """Look at a run until it ends, recovering lost jobs; return its summary, None if it has none.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run.
    report
        Hears of the table of states at every look.
    seconds
        Time between looks, s.
    """
    run, run_file = known(store_url, run, ended=True)
    engine = engine_of(run_file)
    looks = still = 0
    while (found := summary(store_url, run)) is None:
        rows = engine.jobs(run)
        report(rows)
        recovered = engine.recover(run) if looks % RECOVER_EVERY == 0 else 0
        still = still + 1 if _is_stuck(rows) and not recovered else 0
        if still >= LOOKS_AT_STANDSTILL:
            set_state(store_url, run, RunState.FAILED)
            return None
        looks += 1
        time.sleep(seconds)
    report(engine.jobs(run))
    set_state(store_url, run, RunState.COMPLETED)
    return found


def known(store_url: str, run: str | None, *, ended: bool = False) -> tuple[str, RunFile]:
    """Return the id and the run file of a run.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run; the latest by default.
    ended
        Whether it may have been cancelled.

    Raises
    ------
    UnknownRunError, RunEndedError
        If there is no such run, or it was cancelled.
    """
    with closing(open_store(store_url, read_only=True)) as store:
        document = find_run(store, run)
        if not ended:
            refuse_cancelled(document)
        return document.run, stored_run_file(store, document, store_url)


def engine_name(store_url: str, run: str | None) -> EngineName:
    """Return the name of the engine of a run."""
    return known(store_url, run, ended=True)[1].runner


def _is_stuck(rows: list[JobRow]) -> bool:
    """Whether something failed and nothing is on its way."""
    moving = {JobState.RUNNING, JobState.QUEUED, JobState.PAUSED}
    failed = any(row.state is JobState.FAILED for row in rows)
    return failed and not any(row.state in moving for row in rows)
