"""The frames that a run has judged, and their labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jobflow.core.store import JobStore

from ionloop.monitor.records import QueryError, check_run, levels, outputs
from ionloop.monitor.rows import LabelRow
from ionloop.schemas.label import LabelStatus
from ionloop.schemas.packed import Array
from ionloop.schemas.selection import Verdict
from ionloop.schemas.table import Table, join_tables
from ionloop.stores.connect import collection

_LABEL_FIELDS = list(LabelRow.model_fields)

_HOLDERS = {"verdicts": "SelectionDoc", "deviation_against_error": "IterationDoc"}
"""Tables that every turn has, and the type of the document that holds them."""


def frames(
    store: JobStore,
    run: str,
    iteration: int | None = None,
    verdict: str | None = None,
    temperature: float | None = None,
    reason: str | None = None,
    limit: int | None = None,
) -> Table:
    """Return judged frames with their verdict, its reason, and what became of their label.

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
        Text that the reason contains, upper or lower case.
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
    UnknownRunError
        If there is no such run.
    QueryError
        If there is no such verdict, or the turn has no frames.
    """
    check_run(store, run)
    tables = turn_tables(store, "verdicts", run, iteration)
    if iteration is not None and not tables:
        raise QueryError(f"run {run!r} has no frames of turn {iteration} yet")
    judged = join_tables(
        table.with_columns(iteration=np.full(len(table), turn)) for turn, table in tables
    )
    if not len(judged):
        return judged
    wanted = np.flatnonzero(_mask(judged, verdict, temperature, reason))[:limit]
    found = judged.where(wanted)
    return _with_labels(store, run, found) if len(found) else found


def turn_tables(
    store: JobStore, field: str, run: str | None = None, iteration: int | None = None
) -> list[tuple[int, Table]]:
    """Return turn number and table of every turn that has stored the table, in order.

    Parameters
    ----------
    store
        The job store.
    field
        The table: "verdicts", or "deviation_against_error" of the new labels.
    run
        Id of the run; all runs if left out.
    iteration
        A turn, counted from 0; all turns if left out.
    """
    kind = _HOLDERS[field]
    given = {"output.@class": kind, "metadata.run": run, "metadata.iteration": iteration}
    criteria = {key: value for key, value in given.items() if value is not None}
    wanted = ["metadata.iteration", f"output.{field}"]
    found = store.query(criteria, properties=wanted, load=True)
    numbered = ((each["metadata"].get("iteration"), each["output"].get(field)) for each in found)
    tables = [(n, Table.from_dict(stored)) for n, stored in numbered if n is not None and stored]
    return sorted(tables, key=lambda pair: pair[0])


def labels(
    store: JobStore,
    run: str,
    status: str | None = None,
    reason: str | None = None,
    species: Iterable[str] = (),
) -> list[LabelRow]:
    """Return the labels that a run calculated or read; those it reused belong to another run.

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
    UnknownRunError
        If there is no such run.
    """
    check_run(store, run)
    elements = [*species]
    held = {"$all": elements} if elements else None
    given = {"run": run, "status": status, "reason": reason, "species": held}
    criteria = {key: value for key, value in given.items() if value is not None}
    found = collection(store, "labels").query(criteria, properties=_LABEL_FIELDS)
    return [label_row(document) for document in found]


def label_row(document: dict[str, Any]) -> LabelRow:
    """Return the row of a stored label."""
    return LabelRow(**{name: document[name] for name in _LABEL_FIELDS if name in document})


def _mask(
    table: Table, verdict: str | None, temperature: float | None, reason: str | None
) -> Array:
    mask = np.ones(len(table), dtype=bool)
    if verdict is not None:
        if verdict not in list(Verdict):
            known = ", ".join(Verdict)
            raise QueryError(f"there is no verdict {verdict!r}; choose one of {known}")
        mask &= table["verdict"] == verdict
    if temperature is not None:
        mask &= np.isclose(table["temperature"], temperature)
    if reason is not None:
        mask &= np.char.find(np.char.lower(table["reason"]), reason.lower()) >= 0
    return mask


def _with_labels(store: JobStore, run: str, table: Table) -> Table:
    """Add what became of the label of every frame: status and reason."""
    picked = np.char.startswith(table["reason"], "picked")
    known = _known_labels(store, run, table["frame_id"][picked].tolist())
    found = [
        known.get(frame_id, ("missing", "")) if was_picked else ("", "")
        for frame_id, was_picked in zip(table["frame_id"].tolist(), picked.tolist(), strict=True)
    ]
    status, reason = zip(*found, strict=True)
    return table.with_columns(label=np.array(status), label_reason=np.array(reason))


def _known_labels(store: JobStore, run: str, frame_ids: list[str]) -> dict[str, tuple[str, str]]:
    wanted = ["frame_id", "level", "species", "status", "reason"]
    stored = collection(store, "labels").query({"frame_id": {"$in": frame_ids}}, properties=wanted)
    known, own = levels(store, run), _own_judgement(store, run)
    return {
        label["frame_id"]: own.get(label["frame_id"], (label["status"], label.get("reason") or ""))
        for label in stored
        if any(label["level"] in level.keys(label["species"]) for level in known)
    }


def _own_judgement(store: JobStore, run: str) -> dict[str, tuple[str, str]]:
    """Return status and reason of the labels that this run has judged by its own limits.

    A stored label has the judgement of the run that calculated it.
    """
    judged = {
        each["frame_id"]: (LabelStatus.REJECTED.value, each["reason"])
        for labels in outputs(store, run, "Labels", ["output.rejections"])
        for each in labels.get("rejections", ())
    }
    parts = ["output.dataset.training", "output.dataset.validation"]
    for turn in outputs(store, run, "IterationDoc", parts):
        used = [*turn["dataset"]["training"], *turn["dataset"]["validation"]]
        judged |= dict.fromkeys(used, (LabelStatus.ACCEPTED.value, ""))
    return judged
