"""Start a run file's run on this machine, and take up one that was interrupted."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobflow import Flow
from jobflow.core.store import JobStore

from ionloop.config.codes import ExternalSection
from ionloop.config.errors import Source
from ionloop.config.run_file import RunFile, validate
from ionloop.config.tolerances import changes, cores_by_part
from ionloop.makers import label_external
from ionloop.makers.label_external import Imported
from ionloop.makers.ledger import Ledger
from ionloop.runners.journal import Journal
from ionloop.runners.local import LocalRunner, RunSummary
from ionloop.runners.local_engine import LocalEngine
from ionloop.runners.lock import RunLockedError
from ionloop.runners.progress import Observer, Silent
from ionloop.schemas.errors import InputError, IonloopError
from ionloop.schemas.label import LabelStatus
from ionloop.schemas.run import WAITING, Change, RunDoc, RunState, SummaryDoc
from ionloop.stores.connect import (
    StoreError,
    check_there,
    collection,
    describe,
    open_store,
    store_file,
    write_if,
)


class NothingNamedError(IonloopError, ValueError):
    """It is not said which labels are meant."""


class UnknownRunError(IonloopError, LookupError):
    """There is no such run in the store; the message names those there are."""


class RunEndedError(IonloopError, RuntimeError):
    """What is asked for cannot be done with a run that was cancelled."""


def start(
    run_file: RunFile, observer: Observer | None = None, *, or_resume: bool = False
) -> RunSummary:
    """Start a run and run it to its end.

    Parameters
    ----------
    run_file
        What to run. Its name is the id of the run, with -2, -3, … behind it if it is taken.
    observer
        Hears of every change.
    or_resume
        Take up the run of that name instead, if there is one, with the tolerances given now.

    Raises
    ------
    OtherSettingsError
        If a run is to be taken up that was started with other settings.
    StoreError, JournalError
        If the store refuses.
    """
    if or_resume and is_there(run_file):
        take_over(run_file.store, run_file.name, run_file)
        return resume(run_file.store, run_file.name, observer=observer)
    flow = run_file.flow()
    run = enter(run_file)
    return _execute(run_file, run, observer, lambda runner: runner.run(marked(flow, run), run))


def resume(
    store_url: str,
    run: str | None = None,
    *,
    retry_failed: bool = False,
    observer: Observer | None = None,
) -> RunSummary:
    """Take up a run where it was left; finished jobs do not run again.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run; the latest by default.
    retry_failed
        Whether to try failed jobs again, and those skipped because of them.
    observer
        Hears of every change.

    Raises
    ------
    UnknownRunError, RunEndedError
        If there is no such run, or it was cancelled.
    RunLockedError
        If another runner works on it.
    """
    with closing(open_store(store_url)) as store:
        document = find_run(store, run)
        refuse_cancelled(document)
        submitted = Journal(collection(store, "jobs"), document.run).submitted()
        run_file = stored_run_file(store, document, store_url)

    def work(runner: LocalRunner) -> RunSummary:
        if not submitted:
            return runner.run(marked(run_file.flow(), document.run), document.run)
        return runner.resume(document.run, retry_failed=retry_failed)

    return _execute(run_file, document.run, observer, work)


def take_over(store_url: str, run: str | None, given: RunFile) -> list[Change]:
    """Take tolerances over from a changed run file, for a run that is under way or has stopped.

    The change is recorded in the run's document, which jobs look at when they begin: it holds for
    those that were entered before, too. Cores of jobs that wait in the local runner's journal are
    entered anew.

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
    with closing(open_store(store_url)) as store:
        document = find_run(store, run)
        refuse_cancelled(document)
        stored = stored_run_file(store, document, store_url)
        found = changes(document, stored, given)
        if found:
            LocalEngine(store_url, stored.scratch_folder).refuse_at_work(document.run)
            history = [change.model_dump(mode="json") for change in (*document.changes, *found)]
            content = given.model_dump(mode="json", exclude={"store"}) | {"runner": stored.runner}
            _write(store, {"run": document.run, "run_file": content, "changes": history})
            journal = Journal(collection(store, "jobs"), document.run)
            journal.scale_cores(cores_by_part(stored), cores_by_part(given))
    return found


def import_labels(
    store_url: str,
    run: str,
    paths: Sequence[Path],
    fmt: str | None = None,
    check_units: bool = True,
) -> Imported:
    """Import finished calculations as labels of the frames that a run waits for.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run.
    paths
        Files, or folders of DeePMD data.
    fmt
        Format in the words of dpdata or ASE; worked out from each path when not given.
    check_units
        Take nothing from a file whose numbers look like those of other units.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    InputError
        If the run's labels do not come from outside.
    """
    with closing(open_store(store_url)) as store:
        run_file = stored_run_file(store, find_run(store, run), store_url)
        if not isinstance(run_file.label, ExternalSection):
            raise InputError(
                f"run {run!r} calculates its labels itself (label.code: {run_file.label.code}); "
                "only a run with label.code: external takes labels from outside"
            )
        ledger = Ledger(collection(store, "labels"))
        return label_external.import_labels(ledger, run_file.label, run, paths, fmt, check_units)


def forget_labels(
    store_url: str,
    *,
    run: str | None = None,
    frames: Sequence[str] = (),
    level: str | None = None,
    reason: str | None = None,
    accepted: bool = False,
    really: bool = False,
) -> list[dict[str, Any]]:
    """Find labels to drop, and drop them if that is really meant.

    Parameters
    ----------
    store_url
        The store.
    run
        Only labels that this run asked for first.
    frames
        Only labels of these frames: ids, or their first characters.
    level
        Only labels at the level of theory with this hash.
    reason
        Only labels that were rejected for this reason.
    accepted
        Accepted labels too.
    really
        Drop them.

    Returns
    -------
    list of dict
        What was, or would be, dropped: key, verdict, run, level in words, cost.

    Raises
    ------
    NothingNamedError
        If neither run, frames, level nor reason say which.
    """
    named = {"run": run, "level": level, "reason": reason}
    criteria: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    if frames:
        criteria["frame_id"] = {"$regex": f"^({'|'.join(map(re.escape, frames))})"}
    if not criteria:
        raise NothingNamedError("say which labels: --run, --frame, --level or --reason")
    if not accepted:
        criteria["status"] = LabelStatus.REJECTED.value
    wanted = ["label_id", "status", "reason", "run", "level_words", "seconds", "cores"]
    with closing(open_store(store_url, read_only=not really)) as store:
        labels = collection(store, "labels")
        found = [{key: each.get(key) for key in wanted} for each in labels.query(criteria, wanted)]
        if really:
            labels.remove_docs({"label_id": {"$in": [each["label_id"] for each in found]}})
    return found


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


def _execute(
    run_file: RunFile,
    run: str,
    observer: Observer | None,
    work: Callable[[LocalRunner], RunSummary],
) -> RunSummary:
    runner = _runner(run_file, observer)
    try:
        set_state(run_file.store, run, RunState.RUNNING)
        ended = work(runner)
    except RunLockedError:
        raise  # the run goes on, elsewhere
    except BaseException:
        with suppress(StoreError):  # if it is the store that is lost, that is the error to tell
            set_state(run_file.store, run, RunState.INTERRUPTED)
        raise
    set_state(run_file.store, run, _state(run_file.store, ended))
    return ended


def _runner(run_file: RunFile, observer: Observer | None) -> LocalRunner:
    settings: dict[str, Any] = {"cores": run_file.cores} if run_file.cores else {}
    return LocalRunner(
        store_url=run_file.store,
        scratch=run_file.scratch_folder,
        keep=run_file.keep,
        progress=observer or Silent(),
        **settings,
    )


def _state(store_url: str, ended: RunSummary) -> RunState:
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
        _write(store, {"run": run, "state": state.value, **fields})


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


def _write(store: JobStore, fields: dict[str, Any]) -> None:
    """Write fields of a run; others, such as `runner`, belong to others and stay."""
    runs = collection(store, "runs")
    runs.update((runs.query_one({"run": fields["run"]}) or {}) | fields, key="run")


def _summary(store: JobStore, run: str) -> SummaryDoc | None:
    criteria = {"metadata.run": run, "output.@class": "SummaryDoc"}
    found = store.query_one(criteria, properties=["output"])
    return SummaryDoc.from_stored(found["output"]) if found else None
