"""The ledger of labels: every label that was ever bought, by frame id and level of theory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from jobflow import CURRENT_JOB

from ionloop.makers.base import run_store
from ionloop.schemas.label import LabelDoc, LabelStatus, LevelOfTheory
from ionloop.stores.connect import StoreError


class Ledger:
    """Labels in the store, one document each, written as soon as they are there.

    Parameters
    ----------
    store
        A connected maggma store with the key ``label_id``.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def find(self, frame_ids: Iterable[str], level: LevelOfTheory) -> dict[str, LabelDoc]:
        """Return the labels that are there, by frame id.

        A label's key holds only the elements of its frame, and labels of exactly this level may
        be there under the hash of an earlier version; today's goes before it.
        """
        found = self._of_level({"frame_id": {"$in": list(frame_ids)}}, level)
        former_first = sorted(found, key=lambda label: label.level in level.former, reverse=True)
        return {label.frame_id: label for label in former_first}

    def settled(self, frame_ids: Iterable[str], level: LevelOfTheory) -> dict[str, LabelDoc]:
        """Return the labels that need no calculation: accepted, or rejected for good."""
        found = self.find(frame_ids, level)
        return {
            frame_id: label
            for frame_id, label in found.items()
            if label.reason is None or label.reason.is_final
        }

    def count(self, frame_ids: Iterable[str], level: LevelOfTheory) -> int:
        """Return how many of the frames have a label or a failed attempt at one."""
        criteria = {"frame_id": {"$in": list(frame_ids)}}
        found = self._store.query(criteria, properties=["frame_id", "level", "species"])
        return len({each["frame_id"] for each in found if _is_of(each, level)})

    def of_run(self, run: str, level: LevelOfTheory) -> list[LabelDoc]:
        """Return the labels of a level that a run asked for first."""
        return self._of_level({"run": run}, level)

    def alike(self, keys: Iterable[str], level: LevelOfTheory) -> dict[str, list[LabelDoc]]:
        """Return the labels that need no calculation, by likeness (`LabelDoc.likeness`)."""
        self._complete()
        found = self._of_level({"likeness": {"$in": list(keys)}}, level)
        groups: dict[str, list[LabelDoc]] = {}
        for label in found:
            if label.reason is None or label.reason.is_final:
                groups.setdefault(label.likeness, []).append(label)
        return groups

    def _complete(self) -> None:
        """Write their likeness into labels of versions that had none; what is accepted is final."""
        older = self._store.query({"likeness": None, "status": LabelStatus.ACCEPTED.value})
        while batch := [LabelDoc.from_stored(each) for each in islice(older, 500)]:
            self.record(batch)

    def _of_level(self, criteria: dict[str, Any], level: LevelOfTheory) -> list[LabelDoc]:
        found = self._store.query(criteria)
        return [LabelDoc.from_stored(each) for each in found if _is_of(each, level)]

    def record(self, labels: Sequence[LabelDoc]) -> None:
        """Write labels; when this returns they are safe.

        A job that does not reach the store of the run writes to its files; the engine copies
        them there by the key of jobflow's blobs, which every label therefore has.
        """
        documents = [label.model_dump(mode="json") for label in labels]
        keyed = [document | {"blob_uuid": document["label_id"]} for document in documents]
        self._store.update(keyed, key="label_id")


def current_ledger() -> Ledger:
    """Return the ledger of the run of the current job.

    Raises
    ------
    RuntimeError
        If the job store has no additional store ``labels``.
    """
    exposed: Any = CURRENT_JOB.store
    try:
        store: Any = run_store()
    except StoreError:
        return Ledger(_labels(exposed))
    return Ledger(_labels(store))


def _is_of(document: dict[str, Any], level: LevelOfTheory) -> bool:
    return document["level"] in level.keys(document["species"])


def _labels(store: Any) -> Any:
    if "labels" not in store.additional_stores:
        raise RuntimeError(
            "the job store has no additional store 'labels'; "
            "open it with ionloop.stores.connect.open_store(url)"
        )
    return store.additional_stores["labels"]
