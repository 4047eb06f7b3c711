"""The ledger of labels: every label that was ever bought, by frame id and level of theory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jobflow import CURRENT_JOB

from ionloop.schemas.frames import label_id
from ionloop.schemas.label import LabelDoc


class Ledger:
    """Labels in the store, one document each, written as soon as they are there.

    Parameters
    ----------
    store
        A connected maggma store with the key ``label_id``.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def find(self, frame_ids: Iterable[str], level: str) -> dict[str, LabelDoc]:
        """Return the labels that are there, by frame id."""
        keys = [label_id(frame_id, level) for frame_id in frame_ids]
        documents = self._store.query({"label_id": {"$in": keys}})
        labels = (LabelDoc.from_stored(document) for document in documents)
        return {label.frame_id: label for label in labels}

    def settled(self, frame_ids: Iterable[str], level: str) -> dict[str, LabelDoc]:
        """Return the labels that need no calculation: accepted, or rejected for good."""
        found = self.find(frame_ids, level)
        return {
            frame_id: label
            for frame_id, label in found.items()
            if label.reason is None or label.reason.is_final
        }

    def of_run(self, run: str, level: str) -> list[LabelDoc]:
        """Return the labels of a level that a run asked for first."""
        documents = self._store.query({"run": run, "level": level})
        return [LabelDoc.from_stored(document) for document in documents]

    def record(self, labels: Sequence[LabelDoc]) -> None:
        """Write labels; when this returns they are safe."""
        self._store.update([label.model_dump(mode="json") for label in labels], key="label_id")


def current_ledger() -> Ledger:
    """Return the ledger of the store that the current job runs against.

    Raises
    ------
    RuntimeError
        If the job store has no additional store ``labels``.
    """
    store: Any = CURRENT_JOB.store
    stores = store.additional_stores
    if "labels" not in stores:
        raise RuntimeError(
            "the job store has no additional store 'labels'; "
            "open it with ionloop.stores.connect.open_store(url)"
        )
    return Ledger(stores["labels"])
