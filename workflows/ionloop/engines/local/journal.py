"""The journal: one document per job, every change of state one atomic write.

A job goes ``waiting → running → finished → completed``, or ends ``failed`` or ``skipped``. A
finished entry carries all that its job leaves behind (its output and the jobs it asks for), so
whoever finds one can complete it, once or twice, with the same result.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal

from jobflow.core.flow import Flow, get_flow
from jobflow.core.job import Job, Response
from jobflow.core.reference import OnMissing
from jobflow.utils.find import find_key_value
from maggma.core import Store

from ionloop.jobs.placement import PART
from ionloop.jobs.roles import FloorError
from ionloop.schemas.errors import IonloopError

State = Literal["waiting", "running", "finished", "completed", "failed", "skipped", "cancelled"]

Stop = Literal["children", "run"]

Document = dict[str, Any]


LIVE = frozenset({"waiting", "running", "finished"})


class JournalError(IonloopError, RuntimeError):
    """The journal refuses a request; the message says why and what to do."""


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
        values: Document = {field: document.get(field) for field in _FIELDS}
        values |= {field: frozenset(document[field]) for field in ("parents", "holds")}
        values["error"] = (document.get("error") or {}).get("summary")
        return cls(**values)


_FIELDS = [field.name for field in fields(Entry)]


@dataclass(frozen=True)
class Journal:
    """The journal of one run.

    Attributes
    ----------
    store
        Collection with one document per job; its key is ``job_id``.
    run
        Id of the run.
    """

    store: Store
    run: str

    def submit(self, flow: Flow | Job | list[Job]) -> None:
        """Enter all jobs of a flow as waiting.

        Raises
        ------
        JournalError
            If the run exists already, the flow belongs to another run, or a job's function or
            Maker is defined in the script itself.
        """
        if self.submitted():
            raise JournalError(
                f"run {self.run!r} is in the store already: resume it, or choose another name"
            )
        documents = flow_documents(get_flow(flow), self.run)
        self._check(documents)
        self.store.remove_docs({"run": self.run})
        numbered = [
            document | {"order": order, "submitted": len(documents)}
            for order, document in enumerate(documents)
        ]
        self.store.update(numbered, key="job_id")

    def submitted(self) -> bool:
        """Tell whether a whole flow was entered: a killed submission may leave a part of it."""
        criteria = {"run": self.run, "submitted": {"$exists": True}}
        first = self.store.query_one(criteria, properties=["submitted"])
        return first is not None and self.store.count(criteria) == first["submitted"]

    def entries(self, criteria: Document | None = None) -> list[Entry]:
        """Entries of the run, in order of submission."""
        found = self.store.query({"run": self.run, **(criteria or {})}, properties=_FIELDS)
        return sorted(map(Entry.from_document, found), key=lambda entry: entry.order)

    def read(self, job_id: str) -> Document:
        """Whole document of a job."""
        document: Document | None = self.store.query_one({"job_id": job_id})
        if document is None:
            raise JournalError(f"job {job_id} is not in the journal of run {self.run!r}")
        return {key: value for key, value in document.items() if key != "_id"}

    def write(self, document: Document) -> Entry:
        """Replace the document of a job, in one atomic write."""
        self.store.update([document], key="job_id")
        return Entry.from_document(document)

    def change(self, job_id: str, **changes: Any) -> Entry:
        """Change parts of the document of a job, in one atomic write."""
        return self.write(self.read(job_id) | changes)

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Let jobs wait again, unless they were skipped on request.

        The tries of one that was at work still count.
        """
        for entry in entries:
            if entry.stop is None:
                tries = entry.tries if entry.state == "running" else 0
                self.change(entry.job_id, state="waiting", error=None, tries=tries)

    def judged_again(self) -> list[Entry]:
        """Return skipped entries, and those that failed by a tolerance, which may have changed.

        An entry that was skipped because of another failure will be skipped again.
        """
        failed = self.entries({"state": "failed"})
        by_tolerance = [entry for entry in failed if _is_by_tolerance(entry)]
        return [*by_tolerance, *self.entries({"state": "skipped"})] if by_tolerance else []

    def judge_last(self) -> None:
        """Let jobs that failed because of a tolerance wait for the failed jobs of their step.

        Those run again now. The account of labels does not have them as parents where it goes on
        without late labels.
        """
        failed = self.entries({"state": "failed"})
        tried = [entry for entry in failed if not _is_by_tolerance(entry)]
        for judge in filter(_is_by_tolerance, failed):
            step = (judge.role, judge.iteration)
            of_step = {entry.uuid for entry in tried if (entry.role, entry.iteration) == step}
            if of_step:
                parents = sorted(judge.parents | of_step)
                self.change(judge.job_id, parents=parents, tolerant=True)

    def scale_cores(self, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Change the cores of jobs that have not begun.

        Parameters
        ----------
        before, after
            Cores by part of the run file; a job uses as many, or a multiple of them.
        """
        idle = {"state": {"$in": ["waiting", "failed", "skipped"]}}
        for entry in self.entries(idle) if before != after else []:
            metadata = self.read(entry.job_id)["job"]["metadata"]
            part = metadata.get(PART, entry.role)
            if not metadata.get("light") and before.get(part) != after.get(part):
                self.change(entry.job_id, cores=entry.cores * after[part] // before[part])

    def complete(self, job_id: str, outputs: Store) -> list[Entry]:
        """Store the output of a finished job and enter the jobs that it asked for.

        Doing it twice changes nothing.

        Parameters
        ----------
        job_id
            A job in state ``finished``.
        outputs
            The store of job outputs.

        Returns
        -------
        list[Entry]
            Entries of the jobs it asked for.
        """
        document = self.read(job_id)
        for update in document["held"]:
            outputs.update(update["documents"], key=update["key"])
        self._insert(document["spawned"])
        rest = {key: value for key, value in document.items() if key not in ("held", "spawned")}
        self.write(rest | {"state": "completed"})
        return self.entries({"job_id": {"$in": _job_ids(document["spawned"])}})

    def _insert(self, documents: list[Document]) -> None:
        known = self.store.query({"job_id": {"$in": _job_ids(documents)}}, properties=["job_id"])
        present = {document["job_id"] for document in known}
        missing = [document for document in documents if document["job_id"] not in present]
        if missing:
            first = 1 + max(entry.order for entry in self.entries())
            self.store.update(
                [document | {"order": first + i} for i, document in enumerate(missing)],
                key="job_id",
            )

    def _check(self, documents: list[Document]) -> None:
        for document in documents:
            if find_key_value(document["job"], "@module", "__main__"):
                raise JournalError(
                    f"job {document['name']!r} uses code defined in the script itself, which its "
                    "process cannot import: move it to a module"
                )
        taken = {"job_id": {"$in": _job_ids(documents)}, "run": {"$ne": self.run}}
        other = self.store.query_one(taken, properties=["run"])
        if other is not None:
            raise JournalError(
                f"this flow was submitted before, as run {other['run']!r}: build it anew"
            )


def _is_by_tolerance(entry: Entry) -> bool:
    return FloorError.__name__ in (entry.error or "")


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
    flows: Any = ((response.replace, holds), (response.detour, holds), (response.addition, []))
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


def _job_ids(documents: list[Document]) -> list[str]:
    return [document["job_id"] for document in documents]
