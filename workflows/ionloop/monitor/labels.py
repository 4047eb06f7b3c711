"""The labels of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jobflow.core.store import JobStore

from ionloop.monitor.records import check_run
from ionloop.monitor.rows import LabelRow
from ionloop.stores.connect import collection

_FIELDS = list(LabelRow.model_fields)


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
    given = {
        "status": status,
        "reason": reason,
        "species": {"$all": [*species]} if species else None,
    }
    criteria = {key: value for key, value in given.items() if value is not None}
    found = collection(store, "labels").query({"run": run, **criteria}, properties=_FIELDS)
    return [label_row(document) for document in found]


def label_row(document: dict[str, Any]) -> LabelRow:
    """Return the row of a stored label."""
    return LabelRow(**{name: document[name] for name in _FIELDS if name in document})
