"""The resources that the jobs of each role ask of a queue, with the same keys for every engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from ionloop.schemas.document import Model
from ionloop.schemas.pattern import matching

EngineName = Literal["local", "fireworks", "remote"]


ManagerConfig = dict[str, Any]


_TIME = matching(
    r"(\d+-)?\d{1,3}:\d\d:\d\d", "[days-]hours:minutes:seconds, such as 12:00:00 or 2-12:00:00"
)


class Resources(Model):
    """What a job asks of a queue. The worker's own defaults hold for what is not given."""

    worker: str | None = None
    """who takes the job: a FireWorker, or a worker of jobflow-remote"""
    category: str | None = None
    """FireWorks: category of the jobs"""
    queue: str | None = None
    """queue or partition"""
    account: str | None = None
    """account that pays"""
    nodes: PositiveInt | None = None
    """nodes"""
    processes: PositiveInt | None = None
    """MPI ranks or processes; by default the cores of the role"""
    threads: PositiveInt | None = None
    """cores per process"""
    gpus: NonNegativeInt | None = None
    """GPUs of the job"""
    memory: PositiveFloat | None = Field(None, json_schema_extra={"unit": "GB"})
    """memory of the job on a node"""
    time: Annotated[str, _TIME] | None = None
    """longest time, [days-]hours:minutes:seconds"""
    exec_config: str | None = None
    """jobflow-remote: name of the execution configuration (modules, exports)"""
    extra: dict[str, Any] = Field(default_factory=dict)
    """further keys for the engine, as they are: of FireWorks' queue template, or of qtoolkit's
    resources"""

    @property
    def seconds(self) -> int | None:
        """The longest time in s."""
        if self.time is None:
            return None
        days, _, clock = self.time.rpartition("-")
        hours, minutes, seconds = map(int, clock.split(":"))
        return int(days or 0) * 86_400 + hours * 3600 + minutes * 60 + seconds


class ResourceTable(Model):
    """Resources of every role; `default` holds for what a role does not give itself."""

    default: Resources = Resources()
    """of all roles"""
    label: Resources = Resources()
    """of the labels"""
    train: Resources = Resources()
    """of the trainings"""
    explore: Resources = Resources()
    """of the explorations"""
    select: Resources = Resources()
    """of selection, decisions and accounts: seconds, and access to the database"""
    evaluate: Resources = Resources()
    """of the comparisons of models with new labels"""

    def of(self, role: str, processes: int | None = None) -> Resources:
        """Return the resources of a role, the default's filled in.

        Parameters
        ----------
        role
            One of the fields.
        processes
            Processes where neither the role nor the default says how many.
        """
        own: Resources = getattr(self, role)
        given = self.default.model_dump(exclude_unset=True) | own.model_dump(exclude_unset=True)
        given.setdefault("processes", processes)
        return Resources.model_validate(given)

    def placement(
        self, engine: EngineName, processes: dict[str, int] | None = None
    ) -> dict[str, ManagerConfig]:
        """Return the configuration of an engine by role.

        Parameters
        ----------
        engine
            Name of the engine.
        processes
            Processes by role where the table does not say how many.
        """
        configure = CONFIGURES.get(engine)
        if configure is None:
            return {}
        known = processes or {}
        return {role: configure(self.of(role, known.get(role))) for role in type(self).model_fields}


def fireworks_config(resources: Resources) -> ManagerConfig:
    """Return the keys of a Firework's spec: ``_fworker``, ``_category``, ``_queueadapter``.

    The keys of the queue adapter are those of FireWorks' template for Slurm; another template
    takes its own under `extra`.
    """
    adapter = {
        "queue": resources.queue,
        "account": resources.account,
        "nodes": resources.nodes,
        "ntasks": resources.processes,
        "cpus_per_task": resources.threads,
        "gres": f"gpu:{resources.gpus}" if resources.gpus else None,
        "mem": f"{round(resources.memory * 1000)}M" if resources.memory else None,
        "walltime": resources.time,
        **resources.extra,
    }
    config = {
        "_fworker": resources.worker,
        "_category": resources.category,
        "_queueadapter": _given(adapter),
    }
    return _given(config)


def remote_config(resources: Resources) -> ManagerConfig:
    """Return jobflow-remote's keys: ``worker``, ``resources`` (qtoolkit's), ``exec_config``."""
    per_thread = resources.memory and resources.memory * 1000 / (
        (resources.processes or 1) * (resources.threads or 1)
    )
    asked = {
        "queue_name": resources.queue,
        "account": resources.account,
        "nodes": resources.nodes,
        "processes": resources.processes,
        "threads_per_process": resources.threads,
        "gpus_per_job": resources.gpus,
        "memory_per_thread": per_thread and round(per_thread),
        "time_limit": resources.seconds,
        **resources.extra,
    }
    config = {
        "worker": resources.worker,
        "resources": _given(asked),
        "exec_config": resources.exec_config,
    }
    return _given(config)


CONFIGURES = {"fireworks": fireworks_config, "remote": remote_config}


def _given(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value not in (None, {})}
