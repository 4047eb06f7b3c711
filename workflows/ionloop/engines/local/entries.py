"""Jobs as documents of the journal, and what scheduling reads of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal

from jobflow.core.flow import Flow
from jobflow.core.job import Job, Response
from jobflow.core.reference import OnMissing

State = Literal["waiting", "running", "finished", "completed", "failed", "skipped", "cancelled"]

Stop = Literal["children", "run"]

Document = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """What scheduling needs to know of a job.

    Attributes
    ----------
    job_id
        uuid and index of the job, joined by a dash.
    parents
        uuids of the jobs that must have ended before this one starts.
    holds
        uuids of the jobs whose children wait for this one too: it replaces them or is their
        detour.
    tolerant
        Whether the job runs although a parent failed.
    cores
        Cores the job asks for.
    tries
        Attempts that have ended, in whatever way.
    order
        Place in the order of submission.
    stop
        What the job asked to stop: its children, the run, or nothing.
    process_created
        Creation time of the worker process, seconds since the epoch.
    error
        Sentence that says why the job failed or was skipped.
    iteration
        Turn that the job belongs to, counted from 0; None outside of the loop.
    """

    job_id: str
    uuid: str
    index: int
    name: str
    role: str
    state: State
    parents: frozenset[str]
    holds: frozenset[str]
    tolerant: bool
    cores: int
    tries: int
    order: int
    stop: Stop | None = None
    host: str | None = None
    pid: int | None = None
    process_created: float | None = None
    folder: str | None = None
    error: str | None = None
    iteration: int | None = None

    @classmethod
    def from_document(cls, document: Document) -> Entry:
        """Build the entry from its journal document."""
        values: Document = {field: document.get(field) for field in ENTRY_FIELDS}
        values |= {field: frozenset(document[field]) for field in ("parents", "holds")}
        values["error"] = (document.get("error") or {}).get("summary")
        return cls(**values)


ENTRY_FIELDS = [field.name for field in fields(Entry)]


def now() -> str:
    """Time now, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat()


def flow_documents(flow: Flow, run: str, holds: Iterable[str] = ()) -> list[Document]:
    """Return the journal documents of all jobs of a flow, in its order.

    Parameters
    ----------
    flow
        The flow.
    run
        Id of the run.
    holds
        uuids of the jobs whose children wait for this flow.
    """
    rank = {uuid: place for place, uuid in enumerate(flow.job_uuids)}
    with warnings.catch_warnings():
        # Jobs that are not connected run at the same time here, in the order of the flow.
        warnings.filterwarnings("ignore", message="Some jobs are not connected")
        connected = list(flow.iterflow())  # type: ignore[no-untyped-call]
    jobs = sorted(connected, key=lambda pair: rank[pair[0].uuid])
    return [_document(job, parents, run, frozenset(holds)) for job, parents in jobs]


def spawned_documents(response: Response[Any], parent: Document) -> list[Document]:
    """Return the journal documents of the jobs that a job asks for: replace, detour, addition.

    Children of the job wait for a replacement and a detour, not for an addition.

    Parameters
    ----------
    response
        What the job returned; its replacement, detour and addition are flows.
    parent
        Journal document of the job.
    """
    holds = [parent["uuid"], *parent["holds"]]
    flows: list[tuple[Any, list[str]]] = [
        (response.replace, holds),
        (response.detour, holds),
        (response.addition, []),
    ]
    return [
        document
        for flow, held in flows
        if flow is not None
        for document in flow_documents(flow, parent["run"], held)
    ]


def _document(job: Job, parents: list[str], run: str, holds: frozenset[str]) -> Document:
    # A new job may refer to the job that asked for it, which has ended.
    awaited = {*parents, *job.input_uuids} - {job.uuid} - holds
    # jobflow's store_inputs passes references on unseen: without its parent it has nothing to
    # pass, and the job that resolves them would fail with an error about references.
    misses = job.config.on_missing_references != OnMissing.ERROR
    tolerant = misses and bool(job.config.resolve_references or job.config.expose_store)
    return {
        "job_id": f"{job.uuid}-{job.index}",
        "run": run,
        "uuid": job.uuid,
        "index": job.index,
        "name": job.name,
        "role": job.metadata.get("role", "job"),
        "iteration": job.metadata.get("iteration"),
        "state": "waiting",
        "parents": sorted(awaited),
        "holds": sorted(holds),
        "tolerant": tolerant,
        "on_missing": OnMissing(job.config.on_missing_references).value,
        "cores": job.metadata.get("cores", 1),
        "tries": 0,
        "created": now(),
        "job": job.as_dict(),
    }


def job_ids(documents: list[Document]) -> list[str]:
    """Return the ids of the jobs of journal documents."""
    return [document["job_id"] for document in documents]
