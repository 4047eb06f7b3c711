"""The journal: one document per job, every change of state one atomic write.

A job goes ``waiting → running → finished → completed``, or ends ``failed`` or ``skipped``. A
finished entry carries all that its job leaves behind (its output and the jobs it asks for), so
whoever finds one can complete it, once or twice, with the same result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jobflow.core.flow import Flow, get_flow
from jobflow.core.job import Job
from jobflow.utils.find import find_key_value
from maggma.core import Store

from ionloop.engines.local.entries import ENTRY_FIELDS, Document, Entry, flow_documents, job_ids
from ionloop.jobs.placement import PART
from ionloop.jobs.roles import FloorError
from ionloop.schemas.errors import IonloopError

LIVE = frozenset({"waiting", "running", "finished"})


class JournalError(IonloopError, RuntimeError):
    """The journal refuses a request; the message says why and what to do."""


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
        found = self.store.query({"run": self.run, **(criteria or {})}, properties=ENTRY_FIELDS)
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
        return self.entries({"job_id": {"$in": job_ids(document["spawned"])}})

    def _insert(self, documents: list[Document]) -> None:
        known = self.store.query({"job_id": {"$in": job_ids(documents)}}, properties=["job_id"])
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
        taken = {"job_id": {"$in": job_ids(documents)}, "run": {"$ne": self.run}}
        other = self.store.query_one(taken, properties=["run"])
        if other is not None:
            raise JournalError(
                f"this flow was submitted before, as run {other['run']!r}: build it anew"
            )


def _is_by_tolerance(entry: Entry) -> bool:
    return FloorError.__name__ in (entry.error or "")
