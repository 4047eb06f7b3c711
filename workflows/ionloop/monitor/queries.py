"""Queries: from a store to rows. Pure reads; arrays are loaded only where they are asked for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from jobflow.core.store import JobStore

from ionloop.monitor.rows import JobsOverview, LabelRow, RunRow, RunStatus, Standing, TurnRow
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.iteration import IterationDoc
from ionloop.schemas.job import JOURNAL_FIELDS, STORE_INPUTS, JobRow, JobState, journal_table
from ionloop.schemas.label import LabelStatus, LevelOfTheory
from ionloop.schemas.packed import Array
from ionloop.schemas.potential import ForceErrors
from ionloop.schemas.process import lives
from ionloop.schemas.run import WAITING, RunState, SummaryDoc
from ionloop.schemas.selection import Verdict
from ionloop.schemas.table import Table, join_tables
from ionloop.stores.connect import collection, describe

_LABEL_FIELDS = list(LabelRow.model_fields)

_LEVEL = ["output.level"]


class QueryError(IonloopError, LookupError):
    """A query cannot be answered; the message says why and what could be asked."""


class NotFoundError(QueryError):
    """The store does not hold what was asked for; the message names what it does hold."""


def run_ids(store: JobStore) -> list[str]:
    """Return the ids of all runs, the newest last.

    A run that was never written down as one is known by its turns.
    """
    entered = collection(store, "runs").query(properties=["run", "started"])
    started = {document["run"]: str(document.get("started") or "") for document in entered}
    turns = store.docs_store.query({"output.@class": "IterationDoc"}, properties=["metadata.run"])
    found = {document["metadata"].get("run") for document in turns} - {None, *started}
    return [*sorted(found), *sorted(started, key=lambda run: (started[run], run))]


def check_run(store: JobStore, run: str) -> None:
    """Raise if there is no such run.

    Raises
    ------
    NotFoundError
        Naming the runs that there are.
    """
    if _run_document(store, run) or store.docs_store.count({"metadata.run": run}):
        return
    known = run_ids(store)
    has = f"it has {', '.join(known)}" if known else "it has no runs at all"
    raise NotFoundError(f"there is no run {run!r} in {describe(store)}; {has}")


def runs(store: JobStore) -> list[RunRow]:
    """Return all runs, the newest last."""
    return [_run_row(store, run) for run in run_ids(store)]


def status(store: JobStore, run: str, rows: Sequence[JobRow] | None = None) -> RunStatus:
    """Return one run turn by turn, with its jobs and what it ended with.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    rows
        The table of states of the engine that runs it; without it, what the store knows.

    Raises
    ------
    NotFoundError
        If there is no such run.
    """
    check_run(store, run)
    return RunStatus(
        **dict(_run_row(store, run, rows)),
        turns=turns(store, run, rows),
        jobs=jobs(store, run, rows),
        summary=_summary(store, run),
    )


def iterations(store: JobStore, run: str) -> list[IterationDoc]:
    """Return the finished turns of a run in order, their tables not loaded.

    Raises
    ------
    NotFoundError
        If there is no such run.
    """
    check_run(store, run)
    found = (IterationDoc.from_stored(output) for output in outputs(store, run, "IterationDoc"))
    return sorted(found, key=lambda document: document.progress.index)


def turns(store: JobStore, run: str, rows: Sequence[JobRow] | None = None) -> list[TurnRow]:
    """Return the finished turns of a run in order.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    rows
        The table of states of the engine that runs it; the local runner's journal by default.

    Raises
    ------
    NotFoundError
        If there is no such run.
    """
    documents = iterations(store, run)
    wall = _wall_seconds(journal_rows(store, run) if rows is None else rows)
    spent = [0.0, *(document.progress.core_hours for document in documents)]
    return [
        _turn_row(document, after - before, wall.get(document.progress.index))
        for document, before, after in zip(documents, spent[:-1], spent[1:], strict=True)
    ]


def jobs(store: JobStore, run: str, rows: Sequence[JobRow] | None = None) -> JobsOverview:
    """Return the jobs of a run by role and state.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    rows
        The table of states of the engine that runs it; the local runner's journal by default.

    Raises
    ------
    NotFoundError
        If there is no such run.
    """
    check_run(store, run)
    table = journal_rows(store, run) if rows is None else list(rows)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in table:
        counts[row.role][row.state.value] += 1
    return JobsOverview(counts={role: dict(states) for role, states in counts.items()}, rows=table)


def engine_name(store: JobStore, run: str) -> str:
    """Return the name of the engine that a run was handed to: local, fireworks or remote."""
    name: str = (_run_document(store, run).get("run_file") or {}).get("runner", "local")
    return name


def journal_rows(store: JobStore, run: str) -> list[JobRow]:
    """Return the table of states of a run of the local runner, in the order of submission."""
    entries = collection(store, "jobs").query({"run": run}, properties=JOURNAL_FIELDS)
    return journal_table(entries)


def frames(
    store: JobStore,
    run: str,
    iteration: int | None = None,
    verdict: str | None = None,
    temperature: float | None = None,
    reason: str | None = None,
    limit: int | None = None,
) -> Table:
    """Return judged frames with their verdict, reason, and the fate of their label.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    iteration
        A turn, counted from 0; all turns if left out. Validation MD is no turn.
    verdict
        "accurate", "candidate", "failed" or "skipped".
    temperature
        Temperature of the thermostat in K.
    reason
        Words that the reason holds.
    limit
        Most rows to return; the first ones in order of turn, trajectory and step.

    Returns
    -------
    Table
        The columns of a `SelectionDoc`'s verdicts, and ``iteration``, ``label`` ("accepted",
        "rejected", "missing" where it was asked for but is not there, "" where it was not) and
        ``label_reason``.

    Raises
    ------
    NotFoundError
        If there is no such run.
    QueryError
        If there is no such verdict, or the turn has no frames.
    """
    check_run(store, run)
    parts = []
    left = limit
    tables = verdict_tables(store, run, iteration)
    if iteration is not None and not tables:
        raise QueryError(f"run {run!r} has no frames of turn {iteration} yet")
    for number, table in tables:
        rows = np.flatnonzero(_mask(table, verdict, temperature, reason))[:left]
        parts.append(table.where(rows).with_columns(iteration=np.full(len(rows), number)))
        left = None if left is None else left - len(rows)
    found = join_tables(parts)
    return _with_label_fate(store, run, found) if len(found) else found


def verdict_tables(
    store: JobStore, run: str | None = None, iteration: int | None = None
) -> list[tuple[int, Table]]:
    """Return turn number and verdict table of every turn that came to its selection."""
    criteria: dict[str, Any] = {"output.@class": "SelectionDoc"}
    if run is not None:
        criteria["metadata.run"] = run
    wanted = ["metadata.iteration", "output.verdicts"]
    found = [
        (document["metadata"].get("iteration"), document["output"]["verdicts"])
        for document in store.docs_store.query(criteria, properties=wanted)
    ]
    numbered = [(n, table) for n, table in found if n is not None and iteration in (None, n)]
    tables = load_tables(store, [table for _, table in numbered])
    return sorted(
        ((n, table) for (n, _), table in zip(numbered, tables, strict=True)),
        key=lambda pair: pair[0],
    )


def load_tables(store: JobStore, stored: Sequence[Any]) -> list[Table]:
    """Return tables from what documents hold: the tables, or references into the blob store."""
    blobs = [_blob_uuid(table) for table in stored]
    wanted = {"blob_uuid": {"$in": [blob for blob in blobs if blob is not None]}}
    loaded = {
        document["blob_uuid"]: document["data"]
        for document in collection(store, "data").query(wanted, properties=["blob_uuid", "data"])
    }
    return [
        _as_table(table) if blob is None else Table.unpack(loaded[blob])
        for table, blob in zip(stored, blobs, strict=True)
    ]


def labels(
    store: JobStore,
    run: str,
    status: str | None = None,
    reason: str | None = None,
    species: Iterable[str] = (),
) -> list[LabelRow]:
    """Return the labels that a run bought or read in; what it reused belongs to another run.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    status
        "accepted" or "rejected".
    reason
        Reason of the rejection, such as "outlier".
    species
        Chemical symbols that the frames hold, all of them.

    Raises
    ------
    NotFoundError
        If there is no such run.
    """
    check_run(store, run)
    criteria: dict[str, Any] = {"run": run}
    criteria |= {k: v for k, v in (("status", status), ("reason", reason)) if v is not None}
    if wanted := list(species):
        criteria["species"] = {"$all": wanted}
    return [label_row(document) for document in _label_documents(store, criteria)]


def label_row(document: dict[str, Any]) -> LabelRow:
    """Return the row of a stored label."""
    return LabelRow(**{name: document[name] for name in _LABEL_FIELDS if name in document})


def summary(store: JobStore, run: str) -> SummaryDoc | None:
    """Return the end of a run, or None if it has not come to it.

    Raises
    ------
    NotFoundError
        If there is no such run.
    """
    check_run(store, run)
    return _summary(store, run)


def standing(store: JobStore, run: str, rows: Sequence[JobRow] | None = None) -> Standing:
    """Return where a run stands and, if it stands still, the command that goes on with it.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    rows
        The table of states of the engine that runs it; without it, what the store knows.

    Raises
    ------
    NotFoundError
        If there is no such run.
    """
    check_run(store, run)
    end = _summary(store, run)
    if end is not None:
        how = "converged" if end.converged else "stopped unconverged"
        sentence = f"{how} after {end.n_turns} turn(s): {end.reason}"
        return Standing(state=RunState.COMPLETED, sentence=sentence)
    engine = engine_name(store, run)
    if engine != "local":
        return _on_queue(run, engine, rows)
    runner = _run_document(store, run).get("runner")
    overview = jobs(store, run, rows)
    if runner and lives(runner):
        return Standing(state=RunState.RUNNING, sentence=_at_work(runner, overview))
    return _stands_still(run, runner, overview)


def outputs(
    store: JobStore, run: str, schema: str, properties: Sequence[str] = ("output",)
) -> list[dict[str, Any]]:
    """Return the stored outputs of one type that a run has, not loaded.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    schema
        Name of the type, such as ``IterationDoc``.
    properties
        Parts of the stored record that are wanted, below ``output``.
    """
    criteria = {"metadata.run": run, "output.@class": schema}
    found = store.docs_store.query(criteria, properties=list(properties))
    return [document["output"] for document in found]


def levels(store: JobStore, run: str) -> list[LevelOfTheory]:
    """Return the levels of theory of a run's labels, each once, none before the first."""
    found = [LevelOfTheory(**each["level"]) for each in outputs(store, run, "Labels", _LEVEL)]
    return list({level.hash: level for level in found}.values())


def _run_row(store: JobStore, run: str, rows: Sequence[JobRow] | None = None) -> RunRow:
    document = _run_document(store, run)
    wanted = ["output.progress", "output.n_training_frames"]
    found = outputs(store, run, "IterationDoc", wanted)
    last = max(found, key=lambda each: each["progress"]["index"], default=None)
    return RunRow(
        run=run,
        started=document.get("started"),
        host=_host(document),
        standing=standing(store, run, rows),
        **((_so_far(last) if last else {}) | _in_the_end(_summary(store, run))),
    )


def _so_far(turn: dict[str, Any]) -> dict[str, Any]:
    progress = turn["progress"]
    return {
        "n_turns": progress["index"] + 1,
        "n_labels": progress["n_labels"],
        "n_accepted": turn["n_training_frames"],
        "accurate_fraction": progress["accurate_fractions"][-1],
        "core_hours": progress["core_hours"],
    }


def _in_the_end(end: SummaryDoc | None) -> dict[str, Any]:
    return end.model_dump(include={"n_labels", "n_accepted", "core_hours"}) if end else {}


def _run_document(store: JobStore, run: str) -> dict[str, Any]:
    return collection(store, "runs").query_one({"run": run}) or {}


def _host(document: dict[str, Any]) -> str | None:
    return (document.get("runner") or {}).get("host") or document.get("host")


def _turn_row(document: IterationDoc, core_hours: float, wall: float | None) -> TurnRow:
    new = document.new_label_errors
    return TurnRow(
        turn=document.progress.index,
        stage=document.stage,
        temperatures=document.temperatures,
        counts=document.counts,
        conditions=document.conditions,
        unfinished=document.unfinished,
        n_requested=document.n_requested,
        n_accepted=document.n_accepted,
        rejected=document.rejected,
        n_late=document.n_late,
        n_training_frames=document.n_training_frames,
        train_rmse=mean_force_rmse(document.train_errors),
        validation_rmse=mean_force_rmse(document.validation_errors),
        new_label_rmse=new.force_mev_per_angstrom if new else None,
        new_label_rms=new.force_rms_mev_per_angstrom if new else None,
        rank_correlation=document.rank_correlation,
        core_hours=core_hours,
        wall_seconds=wall,
        action=document.decision.action.value,
        reason=document.decision.reason,
        failures=document.failures,
        notes=[*document.dataset.notes, *document.notes],
    )


def mean_force_rmse(errors: Sequence[ForceErrors]) -> float | None:
    """Return the force error in meV/Å, mean over models, None without any."""
    if not errors:
        return None
    return float(np.mean([error.force_mev_per_angstrom for error in errors]))


def _wall_seconds(rows: Sequence[JobRow]) -> dict[int, float]:
    """Return the time between the first start and the last end of every turn's jobs, s."""
    spans: dict[int, list[datetime]] = defaultdict(list)
    for row in rows:
        if row.name == STORE_INPUTS:
            continue
        if row.iteration is not None and row.started and row.ended:
            spans[row.iteration] += [row.started, row.ended]
    return {turn: (max(times) - min(times)).total_seconds() for turn, times in spans.items()}


def _mask(
    table: Table, verdict: str | None, temperature: float | None, reason: str | None
) -> Array:
    mask = np.ones(len(table), dtype=bool)
    if verdict is not None:
        mask &= table["verdict"] == _verdict(verdict).value
    if temperature is not None:
        mask &= np.isclose(table["temperature"], temperature)
    if reason is not None:
        mask &= np.char.find(np.char.lower(table["reason"]), reason.lower()) >= 0
    return mask


def _verdict(word: str) -> Verdict:
    try:
        return Verdict(word)
    except ValueError as error:
        known = ", ".join(Verdict)
        raise QueryError(f"there is no verdict {word!r}; choose one of {known}") from error


def _with_label_fate(store: JobStore, run: str, table: Table) -> Table:
    picked = np.char.startswith(table["reason"], "picked")
    fates = _label_fates(store, run, table["frame_id"][picked].tolist())
    words = [
        fates.get(frame_id, ("missing", "")) if was_picked else ("", "")
        for frame_id, was_picked in zip(table["frame_id"].tolist(), picked.tolist(), strict=True)
    ]
    status, reason = zip(*words, strict=True)
    return table.with_columns(label=np.array(status), label_reason=np.array(reason))


def _label_fates(store: JobStore, run: str, frame_ids: list[str]) -> dict[str, tuple[str, str]]:
    criteria = {"frame_id": {"$in": frame_ids}}
    wanted = ["frame_id", "level", "species", "status", "reason"]
    known, judged = levels(store, run), _own_verdicts(store, run)
    return {
        document["frame_id"]: judged.get(
            document["frame_id"], (document["status"], document.get("reason") or "")
        )
        for document in collection(store, "labels").query(criteria, properties=wanted)
        if any(document["level"] in level.keys(document["species"]) for level in known)
    }


def _own_verdicts(store: JobStore, run: str) -> dict[str, tuple[str, str]]:
    """Return the verdicts of the run's own limits, as far as its labels are accounted for.

    The ledger has those of the run that bought a label.
    """
    verdicts = {
        each["frame_id"]: (LabelStatus.REJECTED.value, each["reason"])
        for labels in outputs(store, run, "Labels", ["output.rejections"])
        for each in labels.get("rejections", ())
    }
    sides = ["output.dataset.training", "output.dataset.validation"]
    for turn in outputs(store, run, "IterationDoc", sides):
        used = [*turn["dataset"]["training"], *turn["dataset"]["validation"]]
        verdicts |= dict.fromkeys(used, (LabelStatus.ACCEPTED.value, ""))
    return verdicts


def _label_documents(store: JobStore, criteria: dict[str, Any]) -> Iterable[dict[str, Any]]:
    return collection(store, "labels").query(criteria, properties=_LABEL_FIELDS)


def _summary(store: JobStore, run: str) -> SummaryDoc | None:
    found = outputs(store, run, "SummaryDoc")
    return SummaryDoc.from_stored(found[-1]) if found else None


def _at_work(runner: dict[str, Any], overview: JobsOverview) -> str:
    roles = Counter(job.role for job in overview.running)
    work = ", ".join(f"{count} {role}" for role, count in roles.items()) or "between two jobs"
    numbers = [job.iteration for job in overview.running if job.iteration is not None]
    turn = f" on turn {max(numbers)}" if numbers else ""
    return f"{_process(runner)} is at work{turn}: {work}"


def _on_queue(run: str, engine: str, rows: Sequence[JobRow] | None) -> Standing:
    if rows is None:
        return Standing(state=RunState.RUNNING, sentence=f"handed to {engine}")
    if not rows:
        sentence = f"{engine} has no job of it: it was not handed over to the end"
        return Standing(state=RunState.INTERRUPTED, sentence=sentence, cure=f"ionloop resume {run}")
    counts = Counter(row.state for row in rows)
    words = ", ".join(f"{n} {state}" for state, n in counts.items())
    for state, (ends_as, cure) in _STILL.items():
        if counts[state] and not counts[JobState.RUNNING] + counts[JobState.QUEUED]:
            return Standing(state=ends_as, sentence=f"{engine}: {words}", cure=cure.format(run))
    return Standing(state=RunState.RUNNING, sentence=f"{engine}: {words}")


_STILL = {
    JobState.PAUSED: (RunState.PAUSED, "ionloop resume {}"),
    JobState.FAILED: (RunState.FAILED, "ionloop retry {}"),
    JobState.CANCELLED: (RunState.CANCELLED, ""),
}


def _stands_still(run: str, runner: dict[str, Any] | None, overview: JobsOverview) -> Standing:
    cure = f"ionloop resume {run}"
    if runner:
        sentence = f"its runner ({_process(runner)}) is gone before the run came to its end"
        return Standing(state=RunState.INTERRUPTED, sentence=sentence, cure=cure)
    if words := [job.error for job in overview.failed if job.error and WAITING in job.error]:
        sentence = words[0].partition(f"{WAITING}: ")[2]
        return Standing(state=RunState.PAUSED, sentence=sentence, cure=f"{cure} --retry-failed")
    if overview.failed and not overview.by_state.get("waiting"):
        first = overview.failed[0].error or f"{overview.failed[0].name} failed"
        sentence = f"{len(overview.failed)} job(s) failed; first: {first}"
        return Standing(state=RunState.FAILED, sentence=sentence, cure=f"{cure} --retry-failed")
    sentence = "nobody runs it and it has not come to its end"
    return Standing(state=RunState.INTERRUPTED, sentence=sentence, cure=cure)


def _process(runner: dict[str, Any]) -> str:
    return f"process {runner['pid']} on {runner['host']}"


def _blob_uuid(stored: Any) -> str | None:
    packed = stored.get("packed", {}) if isinstance(stored, dict) else {}
    return packed.get("blob_uuid") if isinstance(packed, dict) else None


def _as_table(stored: Any) -> Table:
    return stored if isinstance(stored, Table) else Table.from_dict(stored)
