"""The ledger: every label that was ever calculated, by frame id and level of theory."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import Any

from jobflow import CURRENT_JOB

from ionloop.codes.common.acceptance import Terms, judged, stands
from ionloop.jobs.context import run_store
from ionloop.jobs.label.claims import Claims
from ionloop.schemas.frames import Frames, label_id
from ionloop.schemas.label import LabelDoc, LabelStatus, LevelOfTheory
from ionloop.stores.connect import LoopStore, collection
from ionloop.stores.errors import StoreError
from ionloop.stores.server import persistent

POLL_SECONDS = 1.0
"""Interval in s at which a label that another process calculates is looked for."""


_LOG = logging.getLogger(__name__)


class Ledger:
    """The labels in the store, one document each, written as soon as they are calculated.

    Parameters
    ----------
    store
        A connected maggma store with the key ``label_id``.
    claims
        Claims of the labels that are being calculated; without claims two processes may calculate
        the same label.
    """

    def __init__(self, store: Any, claims: Claims | None = None) -> None:
        self._store = store
        self._claims = claims

    def find(self, frame_ids: Iterable[str], level: LevelOfTheory) -> dict[str, LabelDoc]:
        """Return the stored labels, by frame id.

        The key of a label covers only the elements of its frame. A label of exactly this level may
        also be stored under the hash of an earlier version; today's is preferred.

        Parameters
        ----------
        frame_ids
            Ids of the frames.
        level
            Level of theory.
        """
        found = self._of_level({"frame_id": {"$in": list(frame_ids)}}, level)
        former_first = sorted(found, key=lambda label: label.level in level.former, reverse=True)
        return {label.frame_id: label for label in former_first}

    def settled(self, frame_ids: Iterable[str], terms: Terms) -> dict[str, LabelDoc]:
        """Return the labels that need no calculation on these terms, judged by them, by frame id.

        They are accepted, or rejected for a reason that another calculation would not change.

        Parameters
        ----------
        frame_ids
            Ids of the frames.
        terms
            Conditions on which a label counts.
        """
        found = self.find(frame_ids, terms.level)
        return {
            frame_id: judged(label, terms.limits)
            for frame_id, label in found.items()
            if stands(label, terms)
        }

    def to_calculate(self, frames: Iterable[Frames], terms: Terms) -> Generator[Frames]:
        """Yield the frames that need a calculation, each claimed while the caller works on it.

        Those that another process works on come last, if they still need one by then.

        Parameters
        ----------
        frames
            Single frames.
        terms
            Conditions on which a label counts.
        """
        left = list(frames)
        while left := self.unsettled(left, terms):
            theirs = []
            for frame in left:
                key = _key(frame, terms.level)
                with self._claims.claimed(key) if self._claims else nullcontext(True) as ours:
                    if not ours:
                        theirs.append(frame)
                    elif self.unsettled([frame], terms):
                        yield frame
            if left := theirs:
                _LOG.info("%d frames are being labelled by others: waiting for them", len(left))
                time.sleep(POLL_SECONDS)

    def unsettled(self, frames: Sequence[Frames], terms: Terms) -> list[Frames]:
        """Return the single frames that need a calculation on these terms.

        Parameters
        ----------
        frames, terms
            As for `to_calculate`.
        """
        settled = self.settled([frame.ids[0] for frame in frames], terms)
        return [frame for frame in frames if frame.ids[0] not in settled]

    def being_calculated(self, frames: Iterable[Frames], level: LevelOfTheory) -> set[str]:
        """Return the ids of the single frames that some process is calculating.

        Parameters
        ----------
        frames
            Single frames.
        level
            Level of theory.
        """
        if self._claims is None:
            return set()
        ids = {_key(frame, level): frame.ids[0] for frame in frames}
        return {ids[key] for key in self._claims.held(ids)}

    def forget(self, labels: Iterable[LabelDoc]) -> None:
        """Remove labels for good."""
        keys = [label.label_id for label in labels]
        self._store.remove_docs({"label_id": {"$in": keys}})

    def count(self, frame_ids: Iterable[str], level: LevelOfTheory) -> int:
        """Return how many of the frames have a label or a failed attempt at one.

        Parameters
        ----------
        frame_ids, level
            As for `find`.
        """
        criteria = {"frame_id": {"$in": list(frame_ids)}}
        found = self._store.query(criteria, properties=["frame_id", "level", "species"])
        return len({each["frame_id"] for each in found if _is_of(each, level)})

    def not_taken(self, frame_ids: Iterable[str], level: LevelOfTheory) -> Counter[str]:
        """Count accepted labels of the same code at other levels, by the description of the level.

        An earlier version may have stored labels of this same level under a key that does not
        cover everything that decides it: nothing proves that they are of this level.

        Parameters
        ----------
        frame_ids, level
            As for `find`.
        """
        criteria = {"frame_id": {"$in": list(frame_ids)}, "status": LabelStatus.ACCEPTED.value}
        found = self._store.query(criteria, properties=["level", "level_words", "species"])
        words = (each["level_words"] for each in found if not _is_of(each, level))
        return Counter(each for each in words if level.is_same_code(each))

    def of_run(self, run: str, level: LevelOfTheory) -> list[LabelDoc]:
        """Return the labels of a level that a run was the first to ask for.

        Parameters
        ----------
        run
            Id of the run.
        level
            Level of theory.
        """
        return self._of_level({"run": run}, level)

    def alike(self, keys: Iterable[str], terms: Terms) -> dict[str, list[LabelDoc]]:
        """Return the labels that need no calculation on these terms, by `LabelDoc.likeness`.

        Parameters
        ----------
        keys
            Values of `LabelDoc.likeness`.
        terms
            Conditions on which a label counts.
        """
        self._complete()
        found = self._of_level({"likeness": {"$in": list(keys)}}, terms.level)
        groups: dict[str, list[LabelDoc]] = {}
        for label in found:
            if stands(label, terms):
                groups.setdefault(label.likeness, []).append(label)
        return groups

    def _complete(self) -> None:
        """Write the likeness into accepted labels of older versions, which had none."""
        older = self._store.query({"likeness": None, "status": LabelStatus.ACCEPTED.value})
        while batch := [LabelDoc.from_stored(each) for each in islice(older, 500)]:
            self.record(batch)

    def _of_level(self, criteria: dict[str, Any], level: LevelOfTheory) -> list[LabelDoc]:
        found = self._store.query(criteria)
        return [LabelDoc.from_stored(each) for each in found if _is_of(each, level)]

    def record(self, labels: Sequence[LabelDoc]) -> None:
        """Write labels; when this returns they are safe.

        A job that cannot reach the store of the run writes to files of its own; the engine copies
        them by the key of jobflow's blobs, which is why every label has one. A write that was
        interrupted by a broken connection is repeated, which its key makes harmless.
        """
        documents = [label.model_dump(mode="json") for label in labels]
        keyed = [document | {"blob_uuid": document["label_id"]} for document in documents]
        # A store that is not ionloop's own does not repeat a write by itself.
        persistent(partial(self._store.update, keyed, key="label_id"))


def current_ledger() -> Ledger:
    """Return the ledger of the run of the current job.

    Raises
    ------
    StoreError
        If the job store has no additional store ``labels``.
    """
    try:
        store: Any = run_store()
    except StoreError:
        store = CURRENT_JOB.store
    if "labels" not in store.additional_stores:
        raise StoreError(
            "the job store has no additional store 'labels'; "
            "open it with ionloop.stores.connect.open_store(url)"
        )
    # Claims need writes that no other process interrupts.
    claims = Claims(collection(store, "claims")) if isinstance(store, LoopStore) else None
    return Ledger(store.additional_stores["labels"], claims)


def _is_of(document: dict[str, Any], level: LevelOfTheory) -> bool:
    return document["level"] in level.keys(document["species"])


def _key(frame: Frames, level: LevelOfTheory) -> str:
    return label_id(frame.ids[0], level.of(frame.species).hash)
