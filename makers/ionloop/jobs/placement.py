"""Names, roles and cores of jobs, and where a queue runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobflow import Job

from ionloop.jobs.context import metadata

Placement = Mapping[str, dict[str, Any]]  # role → where a queue is to run it


PART = "part"  # in a job's metadata: its part of the run file, where that is not its role

PRODUCTION = "production"


def assign(job: Job, role: str, name: str, cores: int = 1, *, light: bool = False) -> Job:
    """Give a job its role, a name that people read, and the cores it uses; return it.

    Parameters
    ----------
    job
        A new job.
    role
        Label, train, explore, select, evaluate or decide.
    name
        What people read.
    cores
        Cores it uses.
    light
        Whether it only keeps the books of its role: it needs the store and hardly any time.
    """
    job.name = name
    job.update_metadata({"role": role, "cores": cores, "light": light}, dynamic=False)
    return place(job, metadata().get("placement", {}))


def place(job: Job, placement: Placement) -> Job:
    """Say where a queue is to run a job, by its role; return it.

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
    """Return the configuration for a job with this metadata; None where nothing is said.

    What a role's light jobs take is under "select", what is not named under "default".
    """
    role = "select" if metadata.get("light") else str(metadata.get("role"))
    return placement.get(role, placement.get("default"))
