"""The project of jobflow-remote: its job store and its workers, and what is wrong with them."""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from ionloop.engines.base import BOOKKEEPING
from ionloop.engines.remote.records import Document
from ionloop.jobs.placement import place_of
from ionloop.schemas.errors import InputError
from ionloop.stores.connect import DEFAULT_DATABASE, describe, open_store

if TYPE_CHECKING:
    from jobflow import JobStore
    from jobflow_remote.config.base import Project, WorkerBase
    from jobflow_remote.jobs.jobcontroller import JobController

    from ionloop.jobs.placement import Placement


COPIED = {"data": "GridFSStore", "labels": "MongoStore"}
"""Additional stores that jobs on workers write to, and their kinds."""


EXECUTION = "python -m ionloop.engines.remote.job {}"
"""What a worker is to run jobs with, see `ionloop.engines.remote.job`."""


JOB_MODULES = ("ionloop.engines.remote.job", "ionloop.runners.remote_job")
"""Modules that may stand in a worker's ``execution_cmd``: today's, and that of version 0.1."""


BOOKKEEPING_PRIORITY = 2
"""Bookkeeping jobs go first: others wait for them."""


def native_placement(project: Project, placement: Placement) -> Placement:
    """Return a placement in jobflow-remote's own keys, with a default for all other roles.

    Parameters
    ----------
    project
        The project.
    placement
        Worker, resources and execution configuration by role.
    """
    native = {role: native_place(project, config) for role, config in placement.items()}
    native.setdefault("default", {})
    native["select"] = (place_of(BOOKKEEPING, native) or {}) | {"priority": BOOKKEEPING_PRIORITY}
    return native


def native_place(project: Project, config: Document) -> Document:
    """Return a complete placement in jobflow-remote's own keys.

    Complete, because a job inherits every key that it lacks from the job that asked for it.

    Parameters
    ----------
    project
        The project.
    config
        ``worker``, ``resources`` (fields of qtoolkit's `QResources`), ``exec_config``.
    """
    name = _worker_name(project, config)
    return {
        "worker": name,
        "resources": _header(project.workers[name], config.get("resources") or {}),
        "exec_config": config.get("exec_config") or {"modules": None},
        "priority": 1,
    }


def _worker_name(project: Project, config: Document) -> str:
    name: str = config.get("worker") or next(iter(project.workers))
    return name


def _header(worker: WorkerBase, asked: Document) -> Document:
    """Return the keys of the scheduler's own template; none where there is no scheduler."""
    from qtoolkit.core.data_objects import QResources
    from qtoolkit.io.shell import ShellIO

    scheduler = worker.get_scheduler_io()
    if not asked or isinstance(scheduler, ShellIO):
        return {}
    known = {field.name for field in fields(QResources)}
    given = {key: value for key, value in asked.items() if key in known}
    further = {key: value for key, value in asked.items() if key not in known}
    nodes, processes = asked.get("nodes"), asked.get("processes") or 1
    # qtoolkit takes either a number of processes, or nodes and processes on each.
    shape = {"processes": processes}
    if nodes is not None:
        shape = {"nodes": nodes, "processes": None, "processes_per_node": -(-processes // nodes)}
    resources = QResources(**given | shape)
    if unknown := set(given) - set(scheduler.supported_qresources_keys):
        raise InputError(f"{type(scheduler).__name__} does not know {', '.join(sorted(unknown))}")
    # The resources themselves would grow to all their fields in every job that inherits them.
    header: Document = scheduler._convert_qresources(resources)
    return header | further


def jobstore_block(store_url: str) -> Document:
    """Return the section ``jobstore:`` of a project file for the store of a run.

    Parameters
    ----------
    store_url
        ``mongodb://host/database``.
    """
    database = urlsplit(store_url).path.strip("/") or DEFAULT_DATABASE
    place = {"database": database, "uri": store_url}
    additional = {
        name: {"type": kind, "collection_name": name, **place} for name, kind in COPIED.items()
    }
    docs = {"type": "MongoStore", "collection_name": "outputs", **place}
    return {"docs_store": docs, "additional_stores": additional}


def faults(
    controller: JobController, project: Project, placement: Placement, store_url: str
) -> list[str]:
    """Say what prevents running on a project, a sentence each.

    Parameters
    ----------
    controller
        Controller of the project.
    project
        The project.
    placement
        Worker, resources and execution configuration by role.
    store_url
        URL of the store of the run.
    """
    found = [place_fault(project, *each) for each in placement.items()]
    found += [bookkeeping_fault(project, placement), queue_fault(controller, project)]
    found += [store_fault(controller, store_url)]
    return [fault for fault in found if fault]


def place_fault(project: Project, role: str, config: Document) -> str | None:
    """Say what is wrong with the placement of a role; None if nothing is.

    Parameters
    ----------
    project
        The project.
    role
        The role.
    config
        ``worker``, ``resources`` and ``exec_config`` of the role.
    """
    for key, known in (("worker", project.workers), ("exec_config", project.exec_config)):
        name = config.get(key)
        if isinstance(name, str) and name not in known:
            return (
                f"resources.{role}.{key}: project {project.name!r} of jobflow-remote has no "
                f"{name!r}; it has: {', '.join(known) or 'none'}"
            )
    name = _worker_name(project, config)
    worker = project.workers[name]
    if worker.batch and worker.max_jobs is None:
        return (
            f"worker {name!r} of project {project.name!r} runs batches and needs max_jobs, the "
            "number of allocations at a time"
        )
    try:
        native_place(project, config)
    except ValueError as error:
        return f"resources.{role}: {error} (worker {name!r} of project {project.name!r})"
    return None


def bookkeeping_fault(project: Project, placement: Placement) -> str | None:
    """Say why the worker of the bookkeeping jobs cannot run them; None if it can.

    Parameters
    ----------
    project
        The project.
    placement
        Worker, resources and execution configuration by role.
    """
    name = _worker_name(project, place_of(BOOKKEEPING, placement) or {})
    worker = project.workers.get(name)
    if worker is None or any(name in (worker.execution_cmd or "") for name in JOB_MODULES):
        return None
    return (
        f"worker {name!r} of project {project.name!r} runs the jobs that ask for others, and needs "
        f"the line: execution_cmd: {EXECUTION}"
    )


def queue_fault(controller: JobController, project: Project) -> str | None:
    """Say what is wrong with the database of the queue; None if nothing is.

    Parameters
    ----------
    controller
        Controller of the project.
    project
        The project.
    """
    queue = project.queue
    theirs = {
        controller.jobs_collection,
        queue.flows_collection,
        queue.auxiliary_collection,
        queue.batches_collection,
    }
    shared = theirs & {"outputs", *COPIED, "jobs", "runs"}
    if shared and controller.db.name == getattr(controller.jobstore.docs_store, "database", None):
        return (
            f"project {project.name!r} of jobflow-remote keeps its queue in {', '.join(shared)} "
            "of the store's own database: give queue.store another database or collection_name"
        )
    if controller.auxiliary.find_one({"next_id": {"$exists": True}}) is None:
        return (
            f"the queue of project {project.name!r} of jobflow-remote is new: set it up with: "
            f"jf -p {project.name} admin reset"
        )
    return None


def store_fault(controller: JobController, store_url: str) -> str | None:
    """Say why the job store of a project is not the store of a run; None if it is.

    Parameters
    ----------
    controller
        Controller of the project.
    store_url
        URL of the store of the run.
    """
    with closing(open_store(store_url)) as ours:
        if not hasattr(ours.docs_store, "database"):
            return (
                f"store {describe(ours)} is a file, and jobflow-remote needs a server: "
                "give the run a store mongodb://host/database"
            )
        fault = _difference(controller.jobstore, ours)
    return fault and (
        f"the jobstore of the project of jobflow-remote is not the store of the run: {fault}. "
        "Put this into the project file (jobflow-remote expands no environment variables):\n\n"
        + _as_yaml({"jobstore": jobstore_block(store_url)})
    )


def _as_yaml(document: Document) -> str:
    """Return a document as YAML text for a project file."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 500  # no line breaks in URLs
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.StringIO()
    yaml.dump(document, text)
    return text.getvalue()


def _difference(theirs: JobStore, ours: JobStore) -> str | None:
    """Say how the job store of a project differs from that of a run; None if it does not."""
    additional: dict[str, Any] = theirs.additional_stores  # type: ignore[has-type]
    found = {"outputs": theirs.docs_store, **additional}
    docs: Any = ours.docs_store
    for name, kind in {"outputs": "MongoStore", **COPIED}.items():
        store = found.get(name)
        if store is None:
            return f"it has no additional store {name!r}"
        place = (getattr(store, "database", None), getattr(store, "collection_name", None))
        wanted = (docs.database, name)
        if place != wanted:
            return f"its {name} are in {place[0]}.{place[1]}, not in {wanted[0]}.{wanted[1]}"
        if kind not in {base.__name__ for base in type(store).__mro__}:
            return f"its {name} are in a {type(store).__name__}, not in a {kind}"
    return None if _same_server(theirs, ours) else "it is on another server"


def _same_server(theirs: JobStore, ours: JobStore) -> bool:
    # One server may have several names, so write to one store and read from the other.
    probe = {"uuid": f"probe-{uuid4()}", "index": 0}
    ours.docs_store.update(probe, key=["uuid", "index"])
    try:
        return theirs.docs_store.query_one({"uuid": probe["uuid"]}) is not None
    finally:
        ours.docs_store.remove_docs({"uuid": probe["uuid"]})
