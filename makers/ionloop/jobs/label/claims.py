"""Claims: a frame that is being calculated is claimed, so that nobody else calculates it too."""

from __future__ import annotations

import functools
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobflow import CURRENT_JOB

from ionloop.jobs.context import metadata
from ionloop.schemas.process import alive, identity
from ionloop.stores.connect import write_if

BEAT_SECONDS = 10.0
"""Interval in s at which a claim is renewed."""


SILENT_SECONDS = 60.0
"""Time in s without renewal after which a claim from another host counts as dead."""


class Claims:
    """The frames that are being calculated, one stored claim each.

    A claim is alive while its counter increases. Each process measures that with its own clock;
    clocks of two hosts are never compared. For a claim of the same host or of an earlier attempt
    at the same job it is known at once.

    Parameters
    ----------
    store
        A connected maggma store with the key ``label_id``.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._watched: dict[str, tuple[tuple[str, int], float]] = {}

    @contextmanager
    def claimed(self, label_id: str) -> Iterator[bool]:
        """Claim a label while the body runs; yield whether it is ours.

        Parameters
        ----------
        label_id
            Key of the label.
        """
        claim = self._take(label_id)
        if claim is None:
            yield False
            return
        over = threading.Event()
        heart = threading.Thread(target=self._beat, args=(claim, over), daemon=True)
        heart.start()
        try:
            yield True
        finally:
            over.set()
            heart.join()
            self._store.remove_docs({"label_id": label_id, "token": claim["token"]})

    def held(self, label_ids: Iterable[str]) -> set[str]:
        """Return those for which there is a claim, alive or dead."""
        criteria = {"label_id": {"$in": list(label_ids)}}
        return {each["label_id"] for each in self._store.query(criteria, properties=["label_id"])}

    def _take(self, label_id: str) -> dict[str, Any] | None:
        there = self._store.query_one({"label_id": label_id})
        if there is not None and not self._is_dead(there):
            return None
        claim = {"label_id": label_id, "token": uuid.uuid4().hex, "beat": 0, **_owner()}
        replaced = [{"token": claim["token"]}]  # a repeated write finds its own first attempt
        if there is not None:
            replaced.append({"token": there["token"], "beat": there["beat"]})
        return claim if write_if(self._store, claim, {"$or": replaced}) else None

    def _beat(self, claim: dict[str, Any], over: threading.Event) -> None:
        beat = 0
        while not over.wait(BEAT_SECONDS):
            beat += 1
            try:
                write_if(self._store, {**claim, "beat": beat}, {"token": claim["token"]})
            except Exception:  # noqa: BLE001  # the next renewal tries again
                continue

    def _is_dead(self, claim: dict[str, Any]) -> bool:
        job = CURRENT_JOB.job
        mine = (os.getpid(), _machine())
        if job and claim["job"] == job.uuid and (claim["pid"], claim["machine"]) != mine:
            return True  # an earlier attempt at this job made it, and engines run a job only once
        if claim["machine"] == _machine():
            return not alive(claim["pid"], claim["process_created"])
        return self._is_silent(claim)

    def _is_silent(self, claim: dict[str, Any]) -> bool:
        sign, now = (claim["token"], claim["beat"]), time.monotonic()
        before, since = self._watched.get(claim["label_id"], (None, now))
        if sign != before:
            since = now
        self._watched[claim["label_id"]] = (sign, since)
        return now - since > SILENT_SECONDS


def _owner() -> dict[str, Any]:
    job = CURRENT_JOB.job
    return {
        **identity(),
        "machine": _machine(),
        "job": job.uuid if job else None,
        "run": metadata().get("run"),
    }


@functools.cache
def _machine() -> str:
    """Return the scope of a process id: a host since it was started, or a container on it."""
    host: str = identity()["host"]
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{host} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return host
