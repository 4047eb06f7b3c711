"""Declare jobs: where their data go, and how they see the outputs of other jobs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jobflow import JobConfig, OnMissing, job
from jobflow.core.reference import find_and_resolve_references

from ionloop.jobs.context import run_store
from ionloop.schemas.document import Document


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
