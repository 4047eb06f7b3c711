"""Look up one stored thing by its id, or by the first characters of its id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jobflow.core.store import JobStore

from ionloop.monitor.frames import label_row, turn_tables
from ionloop.monitor.records import NotFoundError, QueryError, run_record
from ionloop.monitor.rows import Found
from ionloop.stores.connect import collection, describe

SHORTEST = 4
"""Fewest characters that are taken for the first ones of an id."""

_HIDDEN = {"job", "held", "spawned"}
"""Fields of a journal entry that only the runner needs."""

_AFTER_ALL = "~"  # sorts after everything that ids are made of


class AmbiguousKeyError(QueryError):
    """Several ids begin with the given characters; the message names them."""


def document(store: JobStore, key: str) -> Found:
    """Return one stored thing.

    Parameters
    ----------
    store
        The job store.
    key
        Id of a run, uuid of a job, label id or frame id. The first characters of the last three
        are enough where no other id begins with them.

    Returns
    -------
    Found
        A run's record; a job's journal entry and output; a label without its arrays; or a
        frame's verdicts and labels.

    Raises
    ------
    NotFoundError
        If nothing has this id.
    AmbiguousKeyError
        If several ids begin with the key.
    """
    if record := run_record(store, key):
        return Found(kind="run", key=key, content=_readable(record))
    for find in (_job, _label, _frame):
        if found := find(store, key):
            return found
    raise NotFoundError(
        f"nothing in {describe(store)} is called {key!r}: give the id of a run, a job, a frame or "
        f"a label, or its first characters (at least {SHORTEST})"
    )


def _job(store: JobStore, key: str) -> Found | None:
    criteria = _begins("uuid", key)
    journal = _by_index(collection(store, "jobs").query(criteria))
    outputs = _by_index(store.docs_store.query(criteria))
    uuid = _only(key, "jobs", {each["uuid"] for each in [*journal, *outputs]})
    if uuid is None:
        return None
    entries = [{k: v for k, v in each.items() if k not in _HIDDEN} for each in journal]
    content = _readable({"journal": entries, "outputs": outputs})
    return Found(kind="job", key=uuid, content=content)


def _label(store: JobStore, key: str) -> Found | None:
    if "-" not in key:  # a frame id, with which the ids of its labels begin
        return None
    stored = collection(store, "labels").query(_begins("label_id", key))
    found = {each["label_id"]: each for each in stored}
    label_id = _only(key, "labels", set(found))
    if label_id is None:
        return None
    return Found(kind="label", key=label_id, content=_readable(found[label_id]))


def _frame(store: JobStore, key: str) -> Found | None:
    if len(key) < SHORTEST:
        return None
    stored = collection(store, "labels").query(_begins("frame_id", key))
    labels = [label_row(each).model_dump(mode="json") for each in stored]
    verdicts = [
        {"iteration": iteration, **row}
        for iteration, table in turn_tables(store, "verdicts")
        for row in table.where(np.char.startswith(table["frame_id"], key)).rows()
    ]
    frame_id = _only(key, "frames", {each["frame_id"] for each in [*labels, *verdicts]})
    if frame_id is None:
        return None
    return Found(kind="frame", key=frame_id, content={"verdicts": verdicts, "labels": labels})


def _begins(field: str, key: str) -> dict[str, Any]:
    # Every store answers a range from its index; not every store does so for a regular expression.
    if len(key) < SHORTEST:
        return {field: key}
    return {field: {"$gte": key, "$lt": key + _AFTER_ALL}}


def _only(key: str, things: str, found: set[str]) -> str | None:
    if key in found:
        return key
    if len(found) > 1:
        first = ", ".join(sorted(found)[:5])
        raise AmbiguousKeyError(f"{key!r} fits {len(found)} {things}: {first}; give more of it")
    return next(iter(found), None)


def _by_index(documents: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(documents, key=lambda document: document["index"])


def _readable(value: Any) -> Any:
    """Return what is stored without the database's own fields, arrays replaced by a remark."""
    if isinstance(value, list):
        return [_readable(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _remark(each) if key == "packed" else _readable(each)
        for key, each in value.items()
        if key != "_id"
    }


def _remark(packed: dict[str, Any]) -> str:
    if "blob_uuid" in packed:
        return f"in the blob store, {packed['blob_uuid']}"
    return f"arrays, {len(str(packed)) / 1000:.1f} kB of text"
