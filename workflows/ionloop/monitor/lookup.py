"""Look up one stored thing by its id or the beginning of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jobflow.core.store import JobStore

from ionloop.monitor.queries import NotFoundError, QueryError, label_row, verdict_tables
from ionloop.monitor.rows import Found
from ionloop.stores.connect import collection, describe

SHORTEST = 4
"""Fewest characters that are taken for the beginning of an id."""


_JOURNAL_PAYLOAD = ("job", "held", "spawned")

_LAST = "~"  # sorts after everything that ids are made of


class AmbiguousKeyError(QueryError):
    """The beginning of an id fits several; the message names them."""


def document(store: JobStore, key: str) -> Found:
    """Return one stored thing.

    Parameters
    ----------
    store
        The job store.
    key
        Id of a run, uuid of a job, label id or frame id; of the last three the first characters
        are enough where they fit one only.

    Returns
    -------
    Found
        A run's document; a job's journal entry and output; a label without its arrays; or a
        frame's verdicts and labels.

    Raises
    ------
    NotFoundError
        If nothing has this id.
    AmbiguousKeyError
        If several have.
    """
    for find in (_run, _job, _label, _frame):
        if found := find(store, key):
            return found
    raise NotFoundError(
        f"nothing in {describe(store)} is called {key!r}: give the id of a run, a job, a frame or "
        f"a label, or its first characters (at least {SHORTEST})"
    )


def _run(store: JobStore, key: str) -> Found | None:
    stored = collection(store, "runs").query_one({"run": key})
    return Found(kind="run", key=key, content=_readable(stored)) if stored else None


def _job(store: JobStore, key: str) -> Found | None:
    journal = list(collection(store, "jobs").query(_begins("uuid", key)))
    done = list(store.docs_store.query(_begins("uuid", key)))
    uuid = _only(key, "jobs", {each["uuid"] for each in [*journal, *done]})
    if uuid is None:
        return None
    content = {
        "journal": [_without(each, _JOURNAL_PAYLOAD) for each in _by_index(journal)],
        "outputs": _by_index(done),
    }
    return Found(kind="job", key=uuid, content=_readable(content))


def _label(store: JobStore, key: str) -> Found | None:
    if "-" not in key:  # a frame id, which is the beginning of its labels' ids
        return None
    found = {each["label_id"]: each for each in _stored_labels(store, "label_id", key)}
    label_id = _only(key, "labels", set(found))
    if label_id is None:
        return None
    return Found(kind="label", key=label_id, content=_readable(found[label_id]))


def _frame(store: JobStore, key: str) -> Found | None:
    labels = list(_stored_labels(store, "frame_id", key)) if len(key) >= SHORTEST else []
    verdicts = list(_verdicts(store, key)) if len(key) >= SHORTEST else []
    frame_id = _only(key, "frames", {each["frame_id"] for each in [*labels, *verdicts]})
    if frame_id is None:
        return None
    rows = [label_row(each).model_dump(mode="json") for each in labels]
    return Found(kind="frame", key=frame_id, content={"verdicts": verdicts, "labels": rows})


def _stored_labels(store: JobStore, field: str, key: str) -> Iterator[dict[str, Any]]:
    return collection(store, "labels").query(_begins(field, key))


def _verdicts(store: JobStore, key: str) -> Iterator[dict[str, Any]]:
    for iteration, table in verdict_tables(store):
        fits = np.char.startswith(table["frame_id"], key)
        for row in table.where(fits).rows():
            yield {"iteration": iteration, **row}


def _begins(field: str, key: str) -> dict[str, Any]:
    # A range is answered from the index, which a regular expression is not on every store.
    if len(key) < SHORTEST:
        return {field: key}
    return {field: {"$gte": key, "$lt": key + _LAST}}


def _only(key: str, things: str, found: set[str]) -> str | None:
    if key in found:
        return key
    if len(found) > 1:
        first = ", ".join(sorted(found)[:5])
        raise AmbiguousKeyError(f"{key!r} fits {len(found)} {things}: {first}; give more of it")
    return next(iter(found), None)


def _by_index(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(documents, key=lambda document: document["index"])


def _without(document: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in fields}


def _readable(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without bookkeeping, a word in the place of every array."""
    return {key: _shortened(key, value) for key, value in document.items() if key != "_id"}


def _shortened(key: str, value: Any) -> Any:
    if key == "packed":
        return _packed_words(value)
    if isinstance(value, dict):
        return _readable(value)
    if isinstance(value, list):
        return [_shortened("", item) for item in value]
    return value


def _packed_words(packed: dict[str, Any]) -> str:
    if "blob_uuid" in packed:
        return f"in the blob store, {packed['blob_uuid']}"
    return f"arrays, {len(str(packed)) / 1000:.1f} kB of text"
