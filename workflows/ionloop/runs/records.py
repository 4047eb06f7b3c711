"""The record of a run in the store: find it, read it, change its state."""

from __future__ import annotations

import platform
from contextlib import closing
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from jobflow import Flow
from jobflow.core.store import JobStore

from ionloop.engines.local.execution import RunSummary
from ionloop.monitor.records import find_run, run_record
from ionloop.monitor.records import summary as stored_summary
from ionloop.runfile.errors import Source
from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import validate
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.run import WAITING, RunDoc, RunState, SummaryDoc
from ionloop.stores.connect import (
    check_there,
    collection,
    describe,
    open_store,
    store_file,
    write_if,
)


class RunEndedError(IonloopError, RuntimeError):
    """What is asked for cannot be done with a run that was cancelled."""


def refuse_cancelled(document: RunDoc) -> None:
    """Raise if a run was cancelled.

    Raises
    ------
    RunEndedError
        With what to do instead.
    """
    if document.state is RunState.CANCELLED:
        raise RunEndedError(
            f"run {document.run!r} was cancelled; a new run takes its labels from the store"
        )


def summary(store_url: str, run: str) -> SummaryDoc | None:
    """Return the summary that a run has ended with, None if it has not ended.

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
    with closing(open_store(store_url, read_only=True)) as store:
        return stored_summary(store, run)


def existing_store(url: str) -> str:
    """Return the URL of a store, after looking that its file is there: opening would create it.

    Raises
    ------
    StoreError
        If it is not.
    """
    if file := store_file(url):
        check_there(file)
    return url


def stored_run_file(store: JobStore, document: RunDoc, store_url: str) -> RunFile:
    """Return the run file that a run was started with.

    Parameters
    ----------
    store
        The store that the run is in.
    document
        The record of the run.
    store_url
        The URL of the store, which the record does not hold.
    """
    place = Path(describe(store))
    content = {**document.run_file, "store": store_url}
    return validate(Source(place, content, marks=None))


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


def is_there(run_file: RunFile) -> bool:
    """Whether the store has a run of that name."""
    with closing(open_store(run_file.store)) as store:
        return bool(collection(store, "runs").count({"run": run_file.name}))


def enter(run_file: RunFile) -> str:
    """Enter the run into the store and return its id, which no other run has taken.

    It is the name of the run, or the name with the first number from 2 on that makes it new.
    """
    content = run_file.model_dump(mode="json", exclude={"store"})
    with closing(open_store(run_file.store)) as store:
        runs = collection(store, "runs")
        while True:
            taken = runs.distinct("run")
            numbered = (f"{run_file.name}-{number}" for number in count(2))
            run = next(each for each in chain([run_file.name], numbered) if each not in taken)
            document = RunDoc(
                run=run,
                name=run_file.name,
                run_file=content,
                started=datetime.now(UTC),
                state=RunState.RUNNING,
                host=platform.node(),
            ).model_dump(mode="json", exclude={"runner"})
            mine = {"started": document["started"], "host": document["host"]}
            if write_if(runs, document, mine):
                return run


def marked(flow: Flow, run: str) -> Flow:
    """Give every job of a flow, and all that follow, the id of its run.

    Parameters
    ----------
    flow
        The flow, which is changed.
    run
        Id of the run.

    Returns
    -------
    Flow
        The same flow.
    """
    flow.update_metadata({"run": run}, dynamic=True)
    return flow


def final_state(store_url: str, ended: RunSummary) -> RunState:
    """Return the state in which a local run has ended.

    A lost label or model is no failure of the run: what counts is that it has its summary.

    Parameters
    ----------
    store_url
        The store that the run is in.
    ended
        What the local runner says of its end.
    """
    if ended.interrupted:
        return RunState.INTERRUPTED
    if summary(store_url, ended.run):
        return RunState.COMPLETED
    return RunState.PAUSED if is_paused(ended) else RunState.FAILED


def is_paused(ended: RunSummary) -> bool:
    """Return whether a run waits for labels from outside."""
    return any(WAITING in failure.summary for failure in ended.failures)


def set_state(store_url: str, run: str, state: RunState) -> None:
    """Write the state of a run into its record.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run.
    state
        The state.
    """
    with closing(open_store(existing_store(store_url))) as store:
        write_fields(store, {"run": run, "state": state.value})


def write_fields(store: JobStore, fields: dict[str, Any]) -> None:
    """Write fields of a run's record; others, such as `runner`, are not ours and stay.

    Parameters
    ----------
    store
        The store that the run is in.
    fields
        The fields, among them `run`, the id of the run.
    """
    collection(store, "runs").update(run_record(store, fields["run"]) | fields, key="run")
