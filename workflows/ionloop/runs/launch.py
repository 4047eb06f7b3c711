"""Start the run of a run file on this machine, and resume one that was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

from jobflow import Flow

from ionloop.engines.base import EngineError
from ionloop.engines.local.engine import LocalEngine
from ionloop.engines.local.execution import RunSummary
from ionloop.engines.local.journal import Journal
from ionloop.engines.local.lock import RunLockedError
from ionloop.engines.local.progress import Observer, Silent
from ionloop.engines.local.runner import LocalRunner
from ionloop.monitor.records import find_run
from ionloop.runfile.engine import engine_of
from ionloop.runfile.model import RunFile
from ionloop.runfile.tolerances import as_begun, changes
from ionloop.runs import records
from ionloop.schemas.run import Change, RunState
from ionloop.stores.connect import collection, open_store
from ionloop.stores.errors import StoreError


def start(
    run_file: RunFile, observer: Observer | None = None, *, or_resume: bool = False
) -> RunSummary:
    """Start a run and run it to its end.

    Parameters
    ----------
    run_file
        What to run. Its name is the id of the run, with -2, -3, … behind it if it is taken.
    observer
        Is told of every change.
    or_resume
        Resume the run of that name instead, if there is one, with the tolerances given now.

    Raises
    ------
    OtherSettingsError
        If the run to resume was started with other settings.
    EngineError
        If the run is for a queue.
    StoreError, JournalError
        If the store refuses.
    """
    if or_resume and records.is_there(run_file):
        take_over(run_file.store, run_file.name, run_file)
        return resume(run_file.store, run_file.name, observer=observer)
    _refuse_queue(run_file, run_file.name, "submit it, or change the key `runner` to local")
    flow = run_file.flow()
    run = records.enter(run_file)
    return _execute(run_file, run, observer, lambda: flow)


def resume(
    store_url: str,
    run: str | None = None,
    *,
    retry_failed: bool = False,
    observer: Observer | None = None,
) -> RunSummary:
    """Resume a run where it stopped; finished jobs do not run again.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run; the latest by default.
    retry_failed
        Whether to try failed jobs again, and those skipped because of them.
    observer
        Is told of every change.

    Raises
    ------
    UnknownRunError, RunEndedError
        If there is no such run, or it was cancelled.
    EngineError
        If its jobs are on a queue.
    RunLockedError
        If another runner works on it.
    """
    with closing(open_store(store_url)) as store:
        document = find_run(store, run)
        records.refuse_cancelled(document)
        submitted = Journal(collection(store, "jobs"), document.run).submitted()
        run_file = records.stored_run_file(store, document, store_url)
    _refuse_queue(run_file, document.run, f"continue it there with: ionloop resume {document.run}")
    flow = None if submitted else run_file.flow
    return _execute(run_file, document.run, observer, flow, retry_failed)


def take_over(store_url: str, run: str | None, given: RunFile) -> list[Change]:
    """Take over tolerances that were changed in the run file of a run that has not ended.

    The change is recorded in the run's record, which jobs look at when they begin: it also holds
    for jobs that were entered before. Jobs that have not begun get their new cores and place.

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
    EngineError
        If the local runner is at work on it.
    """
    run, before = records.known(store_url, run)
    found = record_changes(store_url, run, given)
    now = records.known(store_url, run)[1]
    if before.placement != now.placement and (engine := engine_of(now)).jobs(run):
        engine.place(run, now.placement)
    return found


def record_changes(store_url: str, run: str, given: RunFile) -> list[Change]:
    """Record changed tolerances, without a change of place; for the rest see `take_over`.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run.
    given
        The changed run file.
    """
    with closing(open_store(store_url)) as store:
        document = find_run(store, run)
        stored = records.stored_run_file(store, document, store_url)
        given = as_begun(stored, given)
        found = changes(document, stored, given)
        if found:
            LocalEngine(store_url, stored.scratch_folder).refuse_at_work(run)
            history = [change.model_dump(mode="json") for change in (*document.changes, *found)]
            content = given.model_dump(mode="json", exclude={"store"}) | {"runner": stored.runner}
            records.write_fields(store, {"run": run, "run_file": content, "changes": history})
            journal = Journal(collection(store, "jobs"), run)
            journal.scale_cores(stored.cores_by_part, given.cores_by_part)
    return found


def _refuse_queue(run_file: RunFile, run: str, cure: str) -> None:
    """Refuse a run of a queue, whose jobs would be done here a second time."""
    if run_file.runner != "local":
        raise EngineError(f"run {run} is for {run_file.runner}, not this process: {cure}")


def _execute(
    run_file: RunFile,
    run: str,
    observer: Observer | None,
    flow: Callable[[], Flow] | None,
    retry_failed: bool = False,
) -> RunSummary:
    """Run a new flow, or resume without one."""
    settings: dict[str, Any] = {"cores": run_file.cores} if run_file.cores else {}
    runner = LocalRunner(
        store_url=run_file.store,
        scratch=run_file.scratch_folder,
        keep=run_file.keep,
        progress=observer or Silent(),
        **settings,
    )
    try:
        records.set_state(run_file.store, run, RunState.RUNNING)
        if flow:
            ended = runner.run(records.marked(flow(), run), run)
        else:
            ended = runner.resume(run, retry_failed)
    except RunLockedError:
        raise  # another runner goes on with the run
    except BaseException:
        with suppress(StoreError):  # if the store is lost, the first error says so
            records.set_state(run_file.store, run, RunState.INTERRUPTED)
        raise
    records.set_state(run_file.store, run, records.final_state(run_file.store, ended))
    return ended
