"""What a store holds of a run: its record, its outputs, its summary."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from jobflow.core.store import JobStore

from ionloop.monitor.rows import JobsOverview
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.job import JobRow
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.run import RunDoc, SummaryDoc
from ionloop.stores.connect import collection, describe
from ionloop.stores.journal import journal_rows


class QueryError(IonloopError, LookupError):
    """A query cannot be answered; the message says why and what could be asked."""


class NotFoundError(QueryError):
    """The store does not hold what was asked for; the message names what it does hold."""


class UnknownRunError(NotFoundError):
    """There is no such run in the store; the message names the runs that there are."""


def run_ids(store: JobStore) -> list[str]:
    """Return the ids of all runs, the newest last.

    A run without a record, such as one of a Maker used directly, is known by its turns.
    """
    records = collection(store, "runs").query(properties=["run", "started"])
    started = {record["run"]: str(record.get("started") or "") for record in records}
    turns = store.docs_store.query({"output.@class": "IterationDoc"}, properties=["metadata.run"])
    found = {document["metadata"].get("run") for document in turns} - {None, *started}
    return [*sorted(found), *sorted(started, key=lambda run: (started[run], run))]


def check_run(store: JobStore, run: str) -> None:
    """Check that there is such a run.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.

    Raises
    ------
    UnknownRunError
        If there is none.
    """
    if not run_record(store, run) and not store.docs_store.count({"metadata.run": run}):
        raise _unknown(store, run, run_ids(store))


def find_run(store: JobStore, run: str | None = None) -> RunDoc:
    """Return the record of a run that was started from a run file.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run; the latest by default.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    """
    records = collection(store, "runs").query({"name": {"$exists": True}})
    known = {record["run"]: RunDoc.from_stored(record) for record in records}
    if run is None and known:
        return max(known.values(), key=lambda record: record.started)
    if run not in known:
        raise _unknown(store, run, sorted(known))
    return known[run]


def run_record(store: JobStore, run: str) -> dict[str, Any]:
    """Return the record of a run as it is stored; empty if it has none.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    """
    return collection(store, "runs").query_one({"run": run}) or {}


def outputs(
    store: JobStore,
    run: str,
    schema: str,
    properties: Sequence[str] = ("output",),
    criteria: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return the outputs of one type that the jobs of a run have stored, arrays not loaded.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    schema
        Name of the type, such as ``IterationDoc``.
    properties
        Which parts to return: keys of the stored document that begin with ``output``.
    criteria
        A MongoDB filter that the stored documents pass too.
    """
    wanted = {"metadata.run": run, "output.@class": schema, **(criteria or {})}
    found = store.docs_store.query(wanted, properties=list(properties))
    return [document["output"] for document in found]


def summary(store: JobStore, run: str) -> SummaryDoc | None:
    """Return what a run ended with, None if it has not ended.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    """
    found = outputs(store, run, "SummaryDoc")
    if not found:
        check_run(store, run)
        return None
    return SummaryDoc.from_stored(found[-1])


def jobs(store: JobStore, run: str, rows: Sequence[JobRow] | None = None) -> JobsOverview:
    """Return the jobs of a run by role and state.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    rows
        The jobs as the engine shows them; by default those of the local runner's journal.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    """
    check_run(store, run)
    found = journal_rows(store, run) if rows is None else list(rows)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in found:
        counts[row.role][row.state.value] += 1
    return JobsOverview(counts=counts, rows=found)


def levels(store: JobStore, run: str) -> list[LevelOfTheory]:
    """Return the levels of theory of a run's labels, each once; none before the first label.

    What a teacher labelled for its students is of none.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    """
    stored = outputs(store, run, "Labels", ["output.level"])
    found = [LevelOfTheory(**labels["level"]) for labels in stored]
    return list({level.hash: level for level in found if not level.is_teacher}.values())


def _unknown(store: JobStore, run: str | None, known: Sequence[str]) -> UnknownRunError:
    named = "run" if run is None else f"run {run!r}"
    none = "it has no runs at all; start one with: ionloop run RUN.yaml"
    has = f"it has {', '.join(known)}" if known else none
    return UnknownRunError(f"there is no {named} in {describe(store)}; {has}")
