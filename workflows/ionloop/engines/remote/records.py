"""The jobs of a run in the database of jobflow-remote."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ionloop.engines.base import descendants, last_sentence
from ionloop.schemas.job import STORE_INPUTS, JobRow, JobState

if TYPE_CHECKING:
    from jobflow_remote.jobs.jobcontroller import JobController


Document = dict[str, Any]


STATES: dict[JobState, tuple[str, ...]] = {
    JobState.WAITING: ("WAITING", "READY"),
    JobState.QUEUED: ("CHECKED_OUT", "UPLOADED", "SUBMITTED", "BATCH_SUBMITTED"),
    JobState.RUNNING: ("RUNNING", "RUN_FINISHED", "DOWNLOADED", "BATCH_RUNNING"),
    JobState.COMPLETED: ("COMPLETED",),
    JobState.FAILED: ("REMOTE_ERROR", "FAILED"),
    JobState.PAUSED: ("PAUSED",),
    JobState.CANCELLED: ("STOPPED", "USER_STOPPED"),
}
"""Our states, and the states of jobflow-remote that they stand for."""


_STATE_OF = {theirs: ours for ours, group in STATES.items() for theirs in group}

WAITING = STATES[JobState.WAITING]

ACTIVE = STATES[JobState.QUEUED] + STATES[JobState.RUNNING]

HELD = STATES[JobState.PAUSED] + STATES[JobState.CANCELLED]

IDLE = WAITING + HELD + STATES[JobState.FAILED]

_FIELDS = (
    "db_id uuid index state worker parents error created_on start_time end_time retries run_dir "
    "remote.process_id remote.step_attempts remote.error job.name job.metadata "
    "job.metadata_updates job.config.on_missing_references job.function.@callable job.hosts"
)


def find_jobs(controller: JobController, run: str, criteria: Document) -> Iterable[Document]:
    """Return the documents of the jobs of a run that meet further criteria.

    Parameters
    ----------
    controller
        Controller of the project.
    run
        Id of the run.
    criteria
        A query of MongoDB; all jobs of the run if empty.
    """
    found: Iterable[Document] = controller.get_jobs(
        {"job.metadata.run": run, **criteria}, _FIELDS.split()
    )
    return found


def documents_of_run(controller: JobController, run: str) -> list[Document]:
    """Return the documents of all jobs of a run, in the order in which they came.

    Parameters
    ----------
    controller
        Controller of the project.
    run
        Id of the run.
    """
    found = find_jobs(controller, run, {})
    return sorted(found, key=lambda each: (each["created_on"], each["db_id"]))


def ids_in_states(controller: JobController, run: str, states: Sequence[str]) -> list[str]:
    """Return the ids of the jobs of a run that are in some states.

    Parameters
    ----------
    controller
        Controller of the project.
    run
        Id of the run.
    states
        States of jobflow-remote.
    """
    return [each["db_id"] for each in find_jobs(controller, run, {"state": {"$in": list(states)}})]


def flows_of_run(controller: JobController, run: str) -> set[str]:
    """Return the uuids of the flows that the jobs of a run belong to.

    Parameters
    ----------
    controller
        Controller of the project.
    run
        Id of the run.
    """
    return {each["job"]["hosts"][-1] for each in find_jobs(controller, run, {})}


def job_rows(documents: Sequence[Document]) -> list[JobRow]:
    """Return the state of every job from the documents of all jobs of a run."""
    skipped = _skipped(documents)
    return [_row(each, skipped=each["db_id"] in skipped) for each in documents]


def _row(document: Document, *, skipped: bool) -> JobRow:
    metadata = document["job"]["metadata"]
    state = JobState.SKIPPED if skipped else _STATE_OF[document["state"]]
    error = document.get("error") or document["remote"].get("error")
    begun = state in {JobState.RUNNING, JobState.COMPLETED, JobState.FAILED}
    return JobRow(
        job_id=document["db_id"],
        uuid=document["uuid"],
        index=document["index"],
        name=document["job"]["name"],
        role=metadata.get("role", ""),
        state=state,
        iteration=metadata.get("iteration"),
        worker=document["worker"],
        queue_id=document["remote"].get("process_id"),
        tries=document.get("retries", 0) + begun,
        error=last_sentence(error) if error else None,
        started=document.get("start_time"),
        ended=document.get("end_time"),
        folder=document.get("run_dir"),
    )


def _skipped(documents: Sequence[Document]) -> set[str]:
    """Return the jobs that will never start, because one that they need has failed."""
    latest = {each["uuid"]: each for each in sorted(documents, key=lambda each: each["index"])}
    failed = {uuid for uuid, each in latest.items() if each["state"] in STATES[JobState.FAILED]}
    waiting = [each for each in latest.values() if each["state"] == "WAITING"]
    skipped: dict[str, str] = {}
    while new := [each for each in waiting if _never_starts(each, failed, skipped)]:
        skipped |= {each["uuid"]: each["db_id"] for each in new}
        waiting = [each for each in waiting if each["uuid"] not in skipped]
    return set(skipped.values())


def _never_starts(document: Document, failed: Container[str], skipped: Container[str]) -> bool:
    tolerant = document["job"]["config"]["on_missing_references"] != "error"
    parents = document["parents"] or []
    return any(each in skipped or (each in failed and not tolerant) for each in parents)


def retried_first(documents: list[Document], wanted: list[Document]) -> list[Document]:
    """Leave out jobs that are put back with a parent, and those that the run went on without.

    Parameters
    ----------
    documents
        All jobs of a run.
    wanted
        Those of them that are to run again.
    """
    latest = {each["uuid"]: each for each in documents}
    children: dict[str, set[str]] = {}
    for document in documents:
        for parent in document["parents"] or ():
            children.setdefault(parent, set()).add(document["uuid"])
    below = {each["uuid"]: descendants(each["uuid"], children) for each in wanted}
    open_ends = {
        uuid for uuid, later in below.items() if all(_undone(latest[each]) for each in later)
    }
    with_parents = {later for uuid in open_ends for later in below[uuid]}
    return [each for each in wanted if each["uuid"] in open_ends - with_parents]


def _undone(document: Document) -> bool:
    # jobflow's store_inputs runs although what it refers to has failed, and calculates nothing.
    forwards = document["job"]["function"].get("@callable") == STORE_INPUTS
    return forwards or document["state"] in (*IDLE, "CHECKED_OUT")
