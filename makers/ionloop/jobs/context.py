"""What a job knows about itself and its run."""

from __future__ import annotations

import functools
from typing import Any

from jobflow import CURRENT_JOB, JobStore

from ionloop.stores.connect import LoopStore, open_store

_opened = functools.cache(open_store)


def run_store() -> JobStore:
    """Return the store of the run that the current job belongs to.

    An engine may give its jobs another store, such as files that are copied later; it then names
    the store of the run in the metadata of the job.

    Raises
    ------
    StoreError
        If the store cannot be reached from here.
    """
    exposed: JobStore = CURRENT_JOB.store
    if isinstance(exposed, LoopStore) or (url := metadata().get("store")) is None:
        return exposed
    return _opened(url)


def metadata() -> dict[str, Any]:
    """Return the metadata of the current job; empty where none runs."""
    current = CURRENT_JOB.job
    return current.metadata if current else {}
