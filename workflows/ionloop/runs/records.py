"""The record of a run in the store: find it, read it, change its state."""

from __future__ import annotations

import platform
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobflow import Flow
from jobflow.core.store import JobStore

from ionloop.engines.local.execution import RunSummary
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


class UnknownRunError(IonloopError, LookupError):
    """There is no such run in the store; the message names those there are."""


class RunEndedError(IonloopError, RuntimeError):
    """What is asked for cannot be done with a run that was cancelled."""


def find_run(store: JobStore, run: str | None = None) -> RunDoc:
    """Return a run of the store, the latest by default.

    Raises
    ------
    UnknownRunError
        If it is not there.
    """
    documents = map(
        RunDoc.from_stored, collection(store, "runs").query({"name": {"$exists": True}})
    )
    known = {document.run: document for document in documents}
    if not known:
        raise UnknownRunError(f"there is no run in {describe(store)}; start one with: ionloop run")
    if run is None:
        return max(known.values(), key=lambda document: document.started)
    if run not in known:
        names = ", ".join(sorted(known))
        raise UnknownRunError(f"there is no run {run!r} in {describe(store)}; there are: {names}")
    return known[run]


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
    """Return the summary that a run has ended with, None if it has not."""
    with closing(open_store(store_url, read_only=True)) as store:
        return _summary(store, run)


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


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, with the first number from 2 on behind it that makes it new."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def stored_run_file(store: JobStore, document: RunDoc, store_url: str) -> RunFile:
    """Return the run file that a run was started with."""
    place = Path(describe(store))
    resources = dict(document.run_file.get("resources") or {})
    resources.pop("transport", None)  # of version 0.1, which had no such jobs
    content = {**document.run_file, "resources": resources, "store": store_url}
    return validate(Source(place, content, marks=None))


def is_there(run_file: RunFile) -> bool:
    """Whether the store has a run of that name."""
    with closing(open_store(run_file.store)) as store:
        return bool(collection(store, "runs").count({"run": run_file.name}))


def enter(run_file: RunFile) -> str:
    """Enter the run into the store and return its id, which no other start has taken."""
    with closing(open_store(run_file.store)) as store:
        runs = collection(store, "runs")
        while True:
            run = free_name(run_file.name, set(runs.distinct("run")))
            document = _document(run_file, run)
            mine = {"started": document["started"], "host": document["host"]}
            if write_if(runs, document, mine):
                return run


def marked(flow: Flow, run: str) -> Flow:
    """Give every job of a flow, and all that follow, the id of its run; return it."""
    flow.update_metadata({"run": run}, dynamic=True)
    return flow


def final_state(store_url: str, ended: RunSummary) -> RunState:
    """Return the state in which a local run has ended."""
    # A lost label or model is no failure of the run: what counts is that it has its summary.
    if ended.interrupted:
        return RunState.INTERRUPTED
    if summary(store_url, ended.run):
        return RunState.COMPLETED
    return RunState.PAUSED if is_paused(ended) else RunState.FAILED


def is_paused(ended: RunSummary) -> bool:
    """Return whether a run waits for labels from outside."""
    return any(WAITING in failure.summary for failure in ended.failures)


def set_state(store_url: str, run: str, state: RunState, **fields: Any) -> None:
    """Write the state of a run, and other fields of its document."""
    with closing(open_store(existing_store(store_url))) as store:
        write_fields(store, {"run": run, "state": state.value, **fields})


def _document(run_file: RunFile, run: str) -> dict[str, Any]:
    document = RunDoc(
        run=run,
        name=run_file.name,
        run_file=run_file.model_dump(mode="json", exclude={"store"}),
        started=datetime.now(UTC),
        state=RunState.RUNNING,
        host=platform.node(),
    )
    return document.model_dump(mode="json", exclude={"runner"})


def write_fields(store: JobStore, fields: dict[str, Any]) -> None:
    """Write fields of a run; others, such as `runner`, belong to others and stay."""
    runs = collection(store, "runs")
    runs.update((runs.query_one({"run": fields["run"]}) or {}) | fields, key="run")


def _summary(store: JobStore, run: str) -> SummaryDoc | None:
    criteria = {"metadata.run": run, "output.@class": "SummaryDoc"}
    found = store.query_one(criteria, properties=["output"])
    return SummaryDoc.from_stored(found["output"]) if found else None
