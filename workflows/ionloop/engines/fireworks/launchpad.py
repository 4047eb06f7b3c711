"""The user's LaunchPad: opening it, locking a run, changing states and places of its jobs."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ionloop.engines.base import BOOKKEEPING, EngineError
from ionloop.engines.fireworks.records import RunRecords
from ionloop.jobs.placement import Placement, place_of
from ionloop.programs.errors import MissingExtraError
from ionloop.schemas.job import STORE_INPUTS

if TYPE_CHECKING:
    from fireworks import LaunchPad

BOOKKEEPING_PRIORITY = 1
"""Bookkeeping jobs go first: others wait for them."""


@contextlib.contextmanager
def opened(file: Path | None) -> Iterator[LaunchPad]:
    """Open the LaunchPad of a file, and close its connections in the end.

    FireWorks itself never closes them: who watches a run from one process would hold more of the
    server's connections with every look.

    Parameters
    ----------
    file
        ``my_launchpad.yaml``; None for the user's own, where FireWorks looks for it.

    Raises
    ------
    MissingExtraError
        If FireWorks is not installed.
    EngineError
        If there is no such file.
    """
    try:
        from fireworks import LaunchPad, fw_config
    except ImportError as error:
        raise MissingExtraError("fireworks", "fireworks", "running through FireWorks") from error
    from monty.serialization import loadfn

    file = file or fw_config.LAUNCHPAD_LOC
    if file is None:
        # FireWorks itself would take a server on this machine.
        raise EngineError(
            "FireWorks: no my_launchpad.yaml here or in ~/.fireworks, and no LAUNCHPAD_LOC in "
            "FW_config.yaml; make one with: lpad init"
        )
    if not Path(file).is_file():
        raise EngineError(f"FireWorks: there is no LaunchPad file {file}")
    pad = LaunchPad.from_dict(loadfn(file) | {"strm_lvl": "CRITICAL"})
    with contextlib.closing(pad.connection):
        yield pad


def check_initialised(pad: LaunchPad) -> None:
    """Raise an `EngineError` if the LaunchPad is new and not set up yet."""
    if pad.fw_id_assigner.find_one({}) is None:
        raise EngineError(
            f"the LaunchPad (database {pad.name}) is not initialised; run once: lpad reset"
        )


def known_run(pad: LaunchPad, run: str) -> RunRecords:
    """Read the jobs of a run that the LaunchPad must have.

    Parameters
    ----------
    pad
        The LaunchPad.
    run
        Id of the run.

    Raises
    ------
    EngineError
        If the LaunchPad does not have the run.
    """
    records = RunRecords.read(pad, run)
    if not records.fireworks:
        raise EngineError(f"run {run!r} is not on the LaunchPad (database {pad.name})")
    return records


@contextlib.contextmanager
def locked(pad: LaunchPad, run: str) -> Iterator[None]:
    """Hold the lock of a run's workflow.

    Parameters
    ----------
    pad
        The LaunchPad.
    run
        Id of the run.
    """
    from fireworks.core.launchpad import WFLock

    workflow = pad.workflows.find_one({"metadata.run": run}, {"nodes": 1})
    with WFLock(pad, workflow["nodes"][0]):
        yield


def mark_paused(pad: LaunchPad, run: str, *, paused: bool) -> None:
    """Note on the workflow whether the run is paused, for jobs that are added later.

    Parameters
    ----------
    pad
        The LaunchPad.
    run
        Id of the run.
    paused
        Whether it is.
    """
    # Without the lock, a worker that holds it would overwrite the mark.
    with locked(pad, run):
        pad.workflows.update_one({"metadata.run": run}, {"$set": {"metadata.paused": paused}})


# The LaunchPad has methods for the functions that follow, but for one job at a time: 0.1 s each,
# and more the more jobs there are.
def set_state(pad: LaunchPad, fw_ids: Collection[int], old: tuple[str, ...], new: str) -> int:
    """Set the state of idle jobs, and what follows from it; return how many were idle.

    Parameters
    ----------
    pad
        The LaunchPad.
    fw_ids
        The jobs, all of one run.
    old
        States in which a job is idle; a job in another one keeps it.
    new
        The new state.
    """
    idle = {"fw_id": {"$in": list(fw_ids)}, "state": {"$in": old}}
    change = {"$set": {"state": new, "updated_on": datetime.now(UTC)}}
    changed: int = pad.fireworks.update_many(idle, change).modified_count
    _update(pad, fw_ids, "refresh")
    return changed


def rerun(pad: LaunchPad, fw_ids: Collection[int]) -> None:
    """Put jobs back to wait, and the jobs that ran after them.

    Parameters
    ----------
    pad
        The LaunchPad.
    fw_ids
        The jobs, all of one run.
    """
    fresh = {"$unset": {"spec._recovery": ""}}
    pad.fireworks.update_many({"fw_id": {"$in": list(fw_ids)}}, fresh)
    _update(pad, fw_ids, "rerun_fw")


def _update(
    pad: LaunchPad, fw_ids: Collection[int], method: Literal["refresh", "rerun_fw"]
) -> None:
    from fireworks.core.launchpad import WFLock

    if not fw_ids:
        return
    first = next(iter(fw_ids))
    with WFLock(pad, first):
        workflow = pad.get_wf_by_fw_id_lzyfw(first)
        updated: set[int] = set()
        for fw_id in fw_ids:
            updated |= set(getattr(workflow, method)(fw_id))
        pad._update_wf(workflow, updated)


def with_priority(placement: Placement) -> Placement:
    """Return a placement in which bookkeeping jobs go first."""
    own = place_of(BOOKKEEPING, placement) or {}
    return {**placement, "select": {"_priority": BOOKKEEPING_PRIORITY, **own}}


def replace(pad: LaunchPad, fw_ids: Collection[int], placement: Placement) -> None:
    """Give stored jobs, and all that they lead to, another place.

    Parameters
    ----------
    pad
        The LaunchPad.
    fw_ids
        Jobs that have not begun.
    placement
        Keys of the spec by role.
    """
    fields = ("metadata", "metadata_updates", "config", "config_updates")
    wanted = ["fw_id", *(f"spec._tasks.job.{field}" for field in fields)]
    found = pad.fireworks.find({"fw_id": {"$in": list(fw_ids)}}, dict.fromkeys(wanted, 1))
    changes: dict[str, list[int]] = defaultdict(list)
    for firework in found:
        job = firework["spec"]["_tasks"][0]["job"]
        changes[json.dumps(_replacement(job, placement))].append(firework["fw_id"])
    for change, same in changes.items():
        pad.update_spec(same, json.loads(change), mongo=True)


def _replacement(job: dict[str, Any], placement: Placement) -> dict[str, Any]:
    """Return the change of a spec that gives a stored job, and all that follow, their place."""
    old = job["config"]["manager_config"]
    new = place_of(job["metadata"], placement) or {}
    stored = "spec._tasks.0.job"
    change: dict[str, Any] = {
        "spec.placement": placement,
        f"{stored}.metadata.placement": placement,
        f"{stored}.config.manager_config": new,
        **{f"spec.{key}": value for key, value in new.items()},
    }
    for k, each in enumerate(job["metadata_updates"]):
        if "placement" in each["update"]:
            change[f"{stored}.metadata_updates.{k}.update.placement"] = placement
    for k, each in enumerate(job["config_updates"]):
        if each["name_filter"] == STORE_INPUTS:
            select = placement["select"]
            change[f"{stored}.config_updates.{k}.config.manager_config"] = select
    # The folder of an earlier launch may be out of reach of another worker.
    dropped = [*(old.keys() - new.keys()), "_launch_dir", "_recovery"]
    return {"$set": change, "$unset": {f"spec.{key}": "" for key in dropped if key not in new}}
