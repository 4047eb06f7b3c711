"""Names, roles and cores of jobs, and where a queue runs them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from jobflow import Job

from ionloop.jobs.context import metadata

Placement = Mapping[str, dict[str, Any]]  # role → where a queue is to run it

PART = "part"  # in a job's metadata: its part of the run file, where that is not its role

PRODUCTION = "production"


class Role(StrEnum):
    """What a job does in the loop."""

    LABEL = "label"
    TRAIN = "train"
    EXPLORE = "explore"
    SELECT = "select"
    EVALUATE = "evaluate"
    DECIDE = "decide"


def assign(job: Job, role: Role, name: str, cores: int = 1, *, bookkeeping: bool = False) -> Job:
    """Give a job its role, a name that users see, and the cores it uses; return it.

    Parameters
    ----------
    job
        A new job.
    role
        What it does.
    name
        Name that users see.
    cores
        Cores it uses.
    bookkeeping
        Whether it needs the store and hardly any time, and calculates nothing.
    """
    job.name = name
    # "light" is how version 0.1 stored `bookkeeping`; queues and stores hold that key.
    job.update_metadata(
        {"role": Role(role).value, "cores": cores, "light": bookkeeping}, dynamic=False
    )
    return place(job, metadata().get("placement", {}))


def place(job: Job, placement: Placement) -> Job:
    """Set where a queue runs a job, by its role; return it.

    Parameters
    ----------
    job
        A job with its role.
    placement
        Configuration of the workflow engine by role.
    """
    config = place_of(job.metadata, placement)
    if config is not None:
        job.config.manager_config = dict(config)
    return job


def place_of(metadata: Mapping[str, Any], placement: Placement) -> dict[str, Any] | None:
    """Return the configuration for a job with this metadata; None where there is none.

    Bookkeeping jobs of every role use that of "select"; a role without its own uses "default".

    Parameters
    ----------
    metadata
        Metadata of the job.
    placement
        Configuration of the workflow engine by role.
    """
    role = Role.SELECT.value if metadata.get("light") else str(metadata.get("role"))
    return placement.get(role, placement.get("default"))
