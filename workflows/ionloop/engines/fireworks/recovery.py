"""Find jobs that lost their worker, launch them again, and repair what a killed worker left."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ionloop.engines.fireworks.launchpad import locked
from ionloop.engines.fireworks.queue import Queue
from ionloop.engines.fireworks.records import LIVE, RunRecords, queue_id, tries
from ionloop.schemas.job import in_utc

if TYPE_CHECKING:
    from fireworks import LaunchPad


LOCK_PATIENCE = 30.0
"""A lock of a workflow that is held for so long, in s, without any change, has no holder."""


def lost_jobs(
    pad: LaunchPad, records: RunRecords, adapter: Path | None, silence: float
) -> set[int]:
    """Return the jobs whose worker is lost, or that were reserved and never reached the queue.

    Parameters
    ----------
    pad
        The LaunchPad.
    records
        Jobs of the run.
    adapter
        File of the queue adapter; None for the user's own.
    silence
        Time without a ping in s after which a worker is lost.
    """
    query = {"fw_id": {"$in": list(records.links)}}
    _, found, _ = pad.detect_lostruns(silence, query=query)
    silent = set(found) | _never_queued(records, silence)
    queued = _queued_here(records)
    queue = Queue.of(adapter) if queued else None
    present = queue.present() if queue else None
    if present is None:
        return silent
    there = {fw_id for fw_id, number in queued.items() if number in present}
    # The thread that pings stops for good when the database is away, and the job runs on.
    return (silent | queued.keys()) - there


def _queued_here(records: RunRecords) -> dict[int, str]:
    """Return the numbers in the queue; a job in a folder not seen here is of another machine."""
    launches = {fw_id: records.launches.get(fw_id, {}) for fw_id in records.of_state(*LIVE)}
    return {
        fw_id: number
        for fw_id, launch in launches.items()
        if (number := queue_id(launch)) and Path(launch["launch_dir"]).is_dir()
    }


def _never_queued(records: RunRecords, silence: float) -> set[int]:
    """Return the jobs whose launcher died after it reserved them, before it queued them."""
    limit = datetime.now(UTC) - timedelta(seconds=silence)
    return {
        fw_id
        for fw_id in records.of_state("RESERVED")
        if queue_id(records.launches.get(fw_id, {})) is None
        and in_utc(datetime.fromisoformat(str(records.fireworks[fw_id]["updated_on"]))) < limit
    }


def relaunch(pad: LaunchPad, records: RunRecords, fw_id: int, max_tries: int) -> bool:
    """Launch a lost job again in its old folder, if tries are left; return whether it waits now.

    Parameters
    ----------
    pad
        The LaunchPad.
    records
        Jobs of the run.
    fw_id
        The job.
    max_tries
        How often it may be launched.
    """
    firework = records.fireworks[fw_id]
    launch = firework["launches"][-1] if firework["launches"] else None
    # It may have ended, or another process may have relaunched it, since the records were read.
    same = {"fw_id": fw_id, "state": firework["state"], "launches": firework["launches"]}
    if not pad.fireworks.count_documents(same):
        return False
    if launch and tries(firework) - firework["spec"].get("forgiven", 0) >= max_tries:
        pad.mark_fizzled(launch)
        return False
    recovery = pad.get_recovery(launch) if launch else None
    mode = {"recover_launch": "last", "recover_mode": "prev_dir"} if recovery else {}
    pad.rerun_fw(fw_id, **mode)
    return True


def free_lock(pad: LaunchPad, run: str) -> None:
    """Remove the lock of a run's workflow if its holder is gone.

    Parameters
    ----------
    pad
        The LaunchPad.
    run
        Id of the run.
    """
    from fireworks.core.launchpad import WFLock

    held = _lock(pad, run)
    deadline = time.monotonic() + LOCK_PATIENCE
    while held is not None and _lock(pad, run) == held:
        if time.monotonic() > deadline:
            with WFLock(pad, held[0], expire_secs=0, kill=True):
                return
        time.sleep(0.5)


def _lock(pad: LaunchPad, run: str) -> tuple[int, str] | None:
    held = {"metadata.run": run, "locked": {"$exists": True}}
    found = pad.workflows.find_one(held, {"nodes": 1, "updated_on": 1})
    return (found["nodes"][0], str(found["updated_on"])) if found else None


def repair(pad: LaunchPad, run: str) -> None:
    """Make a workflow and its fireworks agree again.

    A worker enters what a job leads to firework by firework, then the job itself as
    completed, then the workflow; killed in between, it leaves fireworks of no workflow.

    Parameters
    ----------
    pad
        The LaunchPad.
    run
        Id of the run.
    """
    with locked(pad, run):
        records = RunRecords.read(pad, run)
        stray = {"spec.run": run, "fw_id": {"$nin": list(records.links)}}
        pad.fireworks.delete_many(stray)
        undone = [fw_id for fw_id in records.fireworks if records.half_entered(fw_id)]
        pad.fireworks.update_many({"fw_id": {"$in": undone}}, {"$set": {"state": "RUNNING"}})
    records = RunRecords.read(pad, run)
    for fw_id in records.of_state("RUNNING"):
        if records.launches.get(fw_id, {}).get("state") == "COMPLETED":
            pad._refresh_wf(fw_id)
