"""Change the states and places of jobs in the database of jobflow-remote."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ionloop.engines.base import BOOKKEEPING, EngineError
from ionloop.engines.remote.records import ACTIVE, IDLE, Document, find_jobs, flows_of_run
from ionloop.jobs.placement import Placement, place_of

if TYPE_CHECKING:
    from jobflow_remote.jobs.jobcontroller import JobController


LOCK_WAIT = 60
"""How long to wait for a runner that is at work on a job, in s."""


PATIENCE = 120.0
"""How long to wait for jobs that may ask for more, in s."""


def retry(controller: JobController, document: Document, attempts: int) -> int:
    """Put a failed job back, with what has failed because of it; return how many jobs.

    Parameters
    ----------
    controller
        Controller of the project.
    document
        Document of the job.
    attempts
        Attempts at a step, such as a transfer, after which the runner gives the job up.
    """
    db_id = document["db_id"]
    if document["state"] == "REMOTE_ERROR" and document["remote"]["step_attempts"] >= attempts:
        # Something beside the job failed, such as a transfer: go on with that step.
        controller.retry_job(db_id=db_id, wait=LOCK_WAIT)
        return 1
    changed = controller.rerun_job(db_id=db_id, force=True, wait=LOCK_WAIT, delete_files=False)
    controller.jobs.update_many({"db_id": {"$in": changed}}, {"$inc": {"retries": 1}})
    return len(changed)


def change_state(controller: JobController, run: str, states: Sequence[str], state: str) -> int:
    """Change the state of jobs, all at once: one by one takes minutes; return how many.

    Parameters
    ----------
    controller
        Controller of the project.
    run
        Id of the run.
    states
        States of jobflow-remote; jobs in others stay as they are.
    state
        The new state.

    Raises
    ------
    EngineError
        If a runner holds the lock of the run.
    """
    count = 0
    wait = {"sleep": 1, "max_wait": LOCK_WAIT}
    for flow in flows_of_run(controller, run):
        with controller.lock_flow(filter={"uuid": flow}, projection=["uuid"], **wait) as lock:
            if lock.locked_document is None:
                raise EngineError(
                    "a runner of jobflow-remote is at work on the run and does not end, or was "
                    "killed: try again; if no runner runs, remove its lock with: jf flow unlock"
                )
            uuids = controller.get_job_uuids([flow])
            criteria = {"uuid": {"$in": uuids}, "state": {"$in": states}, "lock_id": None}
            changed = controller.jobs.update_many(criteria, {"$set": {"state": state}})
            count += changed.modified_count
            controller.refresh_children(uuids)
            controller.update_flow_state(flow_uuid=flow)
    return count


def place_all(controller: JobController, run: str, placement: Placement) -> int:
    """Give all jobs that have not begun another place; return how many changed.

    Parameters
    ----------
    controller
        Controller of the project.
    run
        Id of the run.
    placement
        jobflow-remote's own keys by role, as `native_place` gives them.
    """
    fresh = {"job.metadata.run": run, "job.metadata.placement": {"$ne": placement}}
    unbegun = fresh | {"state": {"$in": list(IDLE)}, "lock_id": None}
    count = 0
    for criteria, config in _by_place(placement):
        values = {
            **config,
            "job.config.manager_config": config,
            "job.metadata.placement": placement,
            "job.metadata_updates.$[given].update.placement": placement,
        }
        given = [{"given.update.placement": {"$exists": True}}]
        changed = controller.jobs.update_many(
            unbegun | criteria, {"$set": values}, array_filters=given
        )
        count += changed.modified_count
    return count


def _by_place(placement: Placement) -> Iterator[tuple[Document, Document]]:
    """Yield which jobs take which place, as `ionloop.jobs.placement.place` has it."""
    bookkeeping, role = "job.metadata.light", "job.metadata.role"
    yield {bookkeeping: True}, place_of(BOOKKEEPING, placement) or {}
    for name, config in placement.items():
        yield {bookkeeping: {"$ne": True}, role: name}, config
    yield {bookkeeping: {"$ne": True}, role: {"$nin": list(placement)}}, placement["default"]


def repeat(controller: JobController, run: str, action: Callable[[], int]) -> int:
    """Repeat an action until no job is active that may ask for more jobs; return the total count.

    Parameters
    ----------
    controller
        Controller of the project.
    run
        Id of the run.
    action
        Changes jobs and returns how many.

    Raises
    ------
    EngineError
        If such a job does not end.
    """
    deadline = time.monotonic() + PATIENCE
    asking = {"state": {"$in": list(ACTIVE)}, "job.metadata.light": True}
    count = action()
    while found := list(find_jobs(controller, run, asking)):
        if time.monotonic() > deadline:
            names = ", ".join(each["job"]["name"] for each in found)
            raise EngineError(
                f"{count} jobs were changed, but {names} may ask for more and has not ended: "
                "see that a runner runs (jf runner status), then repeat"
            )
        time.sleep(1)
        count += action()
    return count
