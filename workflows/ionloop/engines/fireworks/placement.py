"""The keys of a firework's spec that say where it runs: change them in jobs that are stored."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ionloop.engines.base import BOOKKEEPING
from ionloop.jobs.placement import Placement, place_of
from ionloop.schemas.job import STORE_INPUTS

if TYPE_CHECKING:
    from fireworks import LaunchPad


BOOKKEEPING_PRIORITY = 1
"""Bookkeeping jobs go first: others wait for them."""


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
