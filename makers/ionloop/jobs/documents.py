"""Jobs that make documents: how they are declared, and what a document says about its origin."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jobflow import CURRENT_JOB, JobConfig, OnMissing, job
from jobflow.core.reference import find_and_resolve_references
from monty.json import MontyEncoder

from ionloop.jobs.context import metadata, run_store
from ionloop.schemas.document import Document, Provenance


def stored_job(schema: type[Document] | None = None, **config: Any) -> Callable[..., Any]:
    """Declare a job whose packed data go to the additional store ``data``.

    Parameters
    ----------
    schema
        Type of the output; left out where the job may replace itself by a flow.
    **config
        Fields of jobflow's `JobConfig`.
    """
    decorator: Callable[..., Any] = job(
        data="packed", output_schema=schema, config=JobConfig(**config)
    )
    return decorator


def collecting_job(
    schema: type[Document] | None = None, *, tolerant: bool = False
) -> Callable[..., Any]:
    """Declare a job that sees every value together with the reference to it.

    So it can pass large results on without storing them again. It resolves its references itself,
    from the store of the run, because not every engine gives a job both value and reference.

    Parameters
    ----------
    schema
        Type of the output; left out where the job may replace itself by a flow.
    tolerant
        Whether the job runs although some of what it collects has failed; its value is then None.
    """
    on_missing = OnMissing.NONE if tolerant else OnMissing.ERROR

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def resolve_and_run(*args: Any, **kwargs: Any) -> Any:
            resolve = functools.partial(
                find_and_resolve_references,
                store=run_store(),
                cache={},
                on_missing=on_missing,
                wrap_resolved=True,
            )
            return function(*resolve(list(args)), **resolve(kwargs))

        config = {"resolve_references": False, "on_missing_references": on_missing}
        return stored_job(schema, expose_store=True, **config)(resolve_and_run)

    return decorate


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
    encoded = MontyEncoder(sort_keys=True).encode(settings).encode()
    return {
        "run": metadata().get("run"),
        "iteration": metadata().get("iteration"),
        "provenance": Provenance(
            job=current.uuid if current else None,
            host=platform.node(),
            versions={"ionloop": _version(), **versions},
            input_hash=None if settings is None else hashlib.sha256(encoded).hexdigest(),
        ),
    }


@functools.cache
def _version() -> str:
    try:
        return version("ionloop")
    except PackageNotFoundError:
        return "not installed"
