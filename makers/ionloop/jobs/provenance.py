"""Where a document comes from: run, turn, job, versions."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jobflow import CURRENT_JOB
from monty.json import MontyEncoder

from ionloop.jobs.context import metadata
from ionloop.schemas.document import Provenance


def stamp(settings: Any = None, **versions: str) -> dict[str, Any]:
    """Return the fields that every document has: run, iteration, provenance of the current job.

    Parameters
    ----------
    settings
        What the document was made with; its hash is kept.
    **versions
        Versions of programs by name.
    """
    current = CURRENT_JOB.job
    return {
        "run": metadata().get("run"),
        "iteration": metadata().get("iteration"),
        "provenance": Provenance(
            job=current.uuid if current else None,
            host=platform.node(),
            versions={"ionloop": _version("ionloop"), **versions},
            input_hash=None if settings is None else _hash(settings),
        ),
    }


@functools.cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _hash(settings: Any) -> str:
    return hashlib.sha256(MontyEncoder(sort_keys=True).encode(settings).encode()).hexdigest()
