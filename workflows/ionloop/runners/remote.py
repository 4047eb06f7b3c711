"""Runs on jobflow-remote: submitted to a project of the user's own, and looked after there.

The runner of jobflow-remote carries every job to its worker as files, so compute nodes need no
database. Jobs that only keep the books run beside the runner, on a worker that reaches the store.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from ionloop.codes.errors import MissingExtraError
from ionloop.makers.base import place_of
from ionloop.runners.engine import (
    LIGHT,
    STORE_INPUTS,
    EngineError,
    JobRow,
    JobState,
    concerned,
    descendants,
    last_sentence,
    prepare,
)
from ionloop.stores.connect import DEFAULT_DATABASE, describe, open_store

if TYPE_CHECKING:
    from jobflow import Flow, JobStore
    from jobflow_remote.config.base import Project, WorkerBase
    from jobflow_remote.jobs.jobcontroller import JobController

    from ionloop.makers.base import Placement

Document = dict[str, Any]

COPIED = {"data": "GridFSStore", "labels": "MongoStore"}
"""Additional stores that jobs on workers write to, and their kinds."""

LOCK_WAIT = 60
"""How long to wait for a runner that is at work on a job, in s."""

LOST = (
    "was not present in the download folder",  # killed before it began
    "likely killed before",
    "The batch process that was running the job",
)
"""What jobflow-remote says of a job whose worker was lost."""

EXECUTION = "python -m ionloop.runners.remote_job {}"
"""What a worker is to run jobs with, see `ionloop.runners.remote_job`."""

LIGHT_PRIORITY = 2
"""Jobs that only keep the books go first: others wait for them."""

PATIENCE = 120.0
"""How long to wait for jobs that may ask for more, in s."""

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
_WAITING = STATES[JobState.WAITING]
_ACTIVE = STATES[JobState.QUEUED] + STATES[JobState.RUNNING]
_HELD = STATES[JobState.PAUSED] + STATES[JobState.CANCELLED]
_IDLE = _WAITING + _HELD + STATES[JobState.FAILED]
_FIELDS = [
    "db_id",
    "uuid",
    "index",
    "state",
    "worker",
    "parents",
    "error",
    "created_on",
    "start_time",
    "end_time",
    "retries",
    "remote.process_id",
    "remote.step_attempts",
    "remote.error",
    "job.name",
    "job.metadata",
    "job.metadata_updates",
    "job.config.on_missing_references",
    "job.function.@callable",
    "run_dir",
    "job.hosts",
]


@dataclass(frozen=True)
class RemoteEngine:
    """A project of jobflow-remote, and the runs of one store on it.

    Attributes
    ----------
    store_url
        URL of the store of the runs, ``mongodb://host/database``.
    project
        Name of the project; by default jobflow-remote's own choice (``JFREMOTE_PROJECT``, or the
        only one there is).
    max_tries
        How often a job is started whose worker is lost each time.
    """

    store_url: str
    project: str | None = None
    max_tries: int = 5

    def check(self, placement: Placement) -> list[str]:
        """Return what stands against running with this placement, a sentence each.

        Parameters
        ----------
        placement
            Worker, resources and execution configuration by role.

        Raises
        ------
        MissingExtraError
            If jobflow-remote is not installed.
        """
        try:
            with self._controller() as (controller, project):
                faults = [_place_fault(project, *each) for each in placement.items()]
                faults += [_light_fault(project, placement), _queue_fault(controller, project)]
                faults += [self._store_fault(controller)]
                return [fault for fault in faults if fault]
        except EngineError as error:
            return [str(error)]

    def submit(self, flow: Flow, run: str, placement: Placement) -> None:
        """Hand a flow over and return at once.

        Parameters
        ----------
        flow
            The flow.
        run
            Id of the run.
        placement
            Worker, resources and execution configuration by role.

        Raises
        ------
        EngineError
            If the project does not suit, or has the run already.
        """
        native = self._native(placement)
        prepare(flow, run, self.store_url, native)
        with self._controller() as (controller, _):
            controller.create_indexes(["job.metadata.run"])
            if controller.count_jobs({"job.metadata.run": run}):
                raise EngineError(
                    f"run {run!r} is in the project of jobflow-remote already; choose another name"
                )
            # What submit_flow does, which leaves its connections open.
            controller.add_flow(flow, **native["default"])

    def jobs(self, run: str) -> list[JobRow]:
        """Return a row for every job of a run, in the order in which they came to be."""
        with self._controller() as (controller, _):
            return _rows(_documents(controller, run))

    def retry(self, run: str, role: str | None = None, error: str | None = None) -> int:
        """Put failed jobs back, with what has failed because of them; return how many.

        A failed job that the run has gone on without stays as it is. The folders of the jobs are
        kept: a training resumes from its checkpoint, and finished labels are not lost.

        Parameters
        ----------
        run
            Id of the run.
        role
            Only jobs of this role.
        error
            Only jobs whose error holds this text.
        """
        return self._retry_rows(run, concerned(self.jobs(run), role, error))

    def tend(self, run: str) -> int:
        """Try jobs again whose worker was lost, up to `max_tries` starts; return how many."""
        rows = [row for row in self.jobs(run) if row.tries < self.max_tries]
        lost = [row for row in rows if any(text in (row.error or "") for text in LOST)]
        return self._retry_rows(run, concerned(lost, None, None))

    def _retry_rows(self, run: str, rows: Iterable[JobRow]) -> int:
        asked = {row.job_id for row in rows}
        with self._controller() as (controller, project):
            documents = _documents(controller, run)
            wanted = [each for each in documents if each["db_id"] in asked]
            attempts = project.runner.max_step_attempts
            return sum(_retry(controller, each, attempts) for each in _first(documents, wanted))

    def pause(self, run: str) -> int:
        """Hold what has not begun; return how many jobs.

        Raises
        ------
        EngineError
            If a job that may ask for more does not end.
        """
        with self._controller() as (controller, _):
            return _repeat(controller, run, lambda: _turn(controller, run, _WAITING, "PAUSED"))

    def proceed(self, run: str) -> int:
        """Release what was paused or cancelled; return how many jobs."""
        with self._controller() as (controller, _):
            return _turn(controller, run, _HELD, "WAITING")

    def cancel(self, run: str) -> int:
        """End what runs and what waits; return how many jobs.

        A job in a batch cannot be taken out: it runs to its end, and its result is dropped.
        """
        with self._controller() as (controller, _):
            flows = _flows(controller, run)
            count = 0
            # A job that is completed in this moment may ask for more.
            while _ids(controller, run, _WAITING + _ACTIVE):
                count += sum(controller.stop_jobflow(flow_uuid=flow) for flow in flows)
                count += _each(controller.stop_job, _ids(controller, run, _ACTIVE))
            for flow in flows:
                controller.update_flow_state(flow_uuid=flow)
            return count

    def place(self, run: str, placement: Placement) -> int:
        """Give what has not begun, and all that follows, other resources; return how many jobs.

        Parameters
        ----------
        run
            Id of the run.
        placement
            Worker, resources and execution configuration by role.

        Raises
        ------
        EngineError
            If the project does not suit, or a job that may ask for more does not end.
        """
        native = self._native(placement)
        with self._controller() as (controller, _):
            return _repeat(controller, run, lambda: _place_all(controller, run, native))

    def unlock(self, run: str, older_than: timedelta = timedelta(minutes=10)) -> int:
        """Remove the locks that a killed runner left on a run; return how many.

        Parameters
        ----------
        run
            Id of the run.
        older_than
            Younger locks stay: a runner may be at work.
        """
        old = {"lock_id": {"$ne": None}, "lock_time": {"$lt": datetime.now(UTC) - older_than}}
        with self._controller() as (controller, _):
            jobs = [each["db_id"] for each in _find(controller, run, old)]
            among = {"uuid": {"$in": list(_flows(controller, run))}}
            flows = [each["uuid"] for each in controller.flows.find(among | old, ["uuid"])]
            count = controller.unlock_jobs(db_ids=jobs) if jobs else 0
            return count + (controller.unlock_flows(flow_ids=flows) if flows else 0)

    @contextlib.contextmanager
    def _controller(self) -> Iterator[tuple[JobController, Project]]:
        project = self._project()
        controller: JobController = project.get_job_controller()  # type: ignore[no-untyped-call]
        try:
            yield controller, project
        finally:
            controller.close()

    def _project(self) -> Project:
        try:
            from jobflow_remote.config import ConfigManager
            from jobflow_remote.config.base import ConfigError
        except ImportError as error:
            raise MissingExtraError("jobflow_remote", "remote", "jobflow-remote") from error
        manager = ConfigManager()
        try:
            return manager.get_project(self.project)
        except ConfigError as error:
            known = ", ".join(sorted(manager.projects)) or "none"
            raise EngineError(
                f"jobflow-remote: {error} (readable projects in {manager.projects_folder}: "
                f"{known}); look what is wrong with: jf project list --warn"
            ) from error

    def _native(self, placement: Placement) -> Placement:
        if faults := self.check(placement):
            raise EngineError("\n".join(faults))
        project = self._project()
        native = {role: native_place(project, config) for role, config in placement.items()}
        native.setdefault("default", {})
        native["select"] = (place_of(LIGHT, native) or {}) | {"priority": LIGHT_PRIORITY}
        return native

    def _store_fault(self, controller: JobController) -> str | None:
        with contextlib.closing(open_store(self.store_url)) as ours:
            if not hasattr(ours.docs_store, "database"):
                return (
                    f"store {describe(ours)} is a file, and jobflow-remote needs a server: "
                    "give the run a store mongodb://host/database"
                )
            fault = _difference(controller.jobstore, ours)
        return fault and (
            f"the jobstore of the project of jobflow-remote is not the store of the run: {fault}. "
            "Put this into the project file (jobflow-remote expands no environment variables):\n\n"
            + _yaml({"jobstore": jobstore_block(self.store_url)})
        )


def native_place(project: Project, config: Document) -> Document:
    """Return a place in the words of jobflow-remote, with nothing left to be inherited.

    A job takes from the job that asks for it what it does not say itself.

    Parameters
    ----------
    project
        The project.
    config
        ``worker``, ``resources`` (fields of qtoolkit's `QResources`), ``exec_config``.
    """
    name = config.get("worker") or next(iter(project.workers))
    return {
        "worker": name,
        "resources": _header(project.workers[name], config.get("resources") or {}),
        "exec_config": config.get("exec_config") or {"modules": None},
        "priority": 1,
    }


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
    resources = QResources(**given | _shape(asked.get("nodes"), asked.get("processes") or 1))
    if unknown := set(given) - set(scheduler.supported_qresources_keys):
        raise ValueError(f"{type(scheduler).__name__} does not know {', '.join(sorted(unknown))}")
    # The resources themselves would grow to all their fields in every job that inherits them.
    header: Document = scheduler._convert_qresources(resources)
    return header | further


def _shape(nodes: int | None, processes: int) -> Document:
    # qtoolkit takes either a number of processes, or nodes and processes on each.
    if nodes is None:
        return {"processes": processes}
    return {"nodes": nodes, "processes": None, "processes_per_node": -(-processes // nodes)}


def jobstore_block(store_url: str) -> Document:
    """Return the section ``jobstore:`` of a project file for the store of a run.

    Parameters
    ----------
    store_url
        ``mongodb://host/database``.
    """
    place = {"database": _database(store_url), "uri": store_url}
    additional = {
        name: {"type": kind, "collection_name": name, **place} for name, kind in COPIED.items()
    }
    docs = {"type": "MongoStore", "collection_name": "outputs", **place}
    return {"docs_store": docs, "additional_stores": additional}


def _database(store_url: str) -> str:
    return urlsplit(store_url).path.strip("/") or DEFAULT_DATABASE


def _yaml(document: Document) -> str:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 500  # no line breaks in URLs
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.StringIO()
    yaml.dump(document, text)
    return text.getvalue()


def _place_fault(project: Project, role: str, config: Document) -> str | None:
    for key, known in (("worker", project.workers), ("exec_config", project.exec_config)):
        name = config.get(key)
        if isinstance(name, str) and name not in known:
            return (
                f"resources.{role}.{key}: project {project.name!r} of jobflow-remote has no "
                f"{name!r}; it has: {', '.join(known) or 'none'}"
            )
    name = config.get("worker") or next(iter(project.workers))
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


def _light_fault(project: Project, placement: Placement) -> str | None:
    name = (place_of(LIGHT, placement) or {}).get("worker") or next(iter(project.workers))
    worker = project.workers.get(name)
    if worker is None or "ionloop.runners.remote_job" in (worker.execution_cmd or ""):
        return None
    return (
        f"worker {name!r} of project {project.name!r} runs the jobs that ask for others, and needs "
        f"the line: execution_cmd: {EXECUTION}"
    )


def _queue_fault(controller: JobController, project: Project) -> str | None:
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


def _difference(theirs: JobStore, ours: JobStore) -> str | None:
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
    # A server has many names; what one writes the other must see.
    probe = {"uuid": f"probe-{uuid4()}", "index": 0}
    ours.docs_store.update(probe, key=["uuid", "index"])
    try:
        return theirs.docs_store.query_one({"uuid": probe["uuid"]}) is not None
    finally:
        ours.docs_store.remove_docs({"uuid": probe["uuid"]})


def _find(controller: JobController, run: str, criteria: Document) -> Iterable[Document]:
    found: Iterable[Document] = controller.get_jobs({"job.metadata.run": run, **criteria}, _FIELDS)
    return found


def _documents(controller: JobController, run: str) -> list[Document]:
    return sorted(_find(controller, run, {}), key=lambda each: (each["created_on"], each["db_id"]))


def _ids(controller: JobController, run: str, states: Sequence[str]) -> list[str]:
    return [each["db_id"] for each in _find(controller, run, {"state": {"$in": list(states)}})]


def _flows(controller: JobController, run: str) -> set[str]:
    return {each["job"]["hosts"][-1] for each in _find(controller, run, {})}


def _rows(documents: Sequence[Document]) -> list[JobRow]:
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
    """Return the jobs that wait in vain: one before them has failed."""
    latest = {each["uuid"]: each for each in sorted(documents, key=lambda each: each["index"])}
    failed = {uuid for uuid, each in latest.items() if each["state"] in STATES[JobState.FAILED]}
    waiting = [each for each in latest.values() if each["state"] == "WAITING"]
    skipped: dict[str, str] = {}
    while new := [each for each in waiting if _in_vain(each, failed, skipped)]:
        skipped |= {each["uuid"]: each["db_id"] for each in new}
        waiting = [each for each in waiting if each["uuid"] not in skipped]
    return set(skipped.values())


def _in_vain(document: Document, failed: Container[str], skipped: Container[str]) -> bool:
    tolerant = document["job"]["config"]["on_missing_references"] != "error"
    parents = document["parents"] or []
    return any(each in skipped or (each in failed and not tolerant) for each in parents)


def _first(documents: list[Document], wanted: list[Document]) -> list[Document]:
    """Leave out what will be put back with its parents, and what the run has gone on without."""
    latest = {each["uuid"]: each for each in documents}
    children = _children(documents)
    below = {each["uuid"]: descendants(each["uuid"], children) for each in wanted}
    open_ends = {
        uuid for uuid, later in below.items() if all(_undone(latest[each]) for each in later)
    }
    with_parents = {later for uuid in open_ends for later in below[uuid]}
    return [each for each in wanted if each["uuid"] in open_ends - with_parents]


def _undone(document: Document) -> bool:
    # jobflow's store_inputs runs although what it refers to has failed, and buys nothing.
    forwards = document["job"]["function"].get("@callable") == STORE_INPUTS
    return forwards or document["state"] in (*_IDLE, "CHECKED_OUT")


def _children(documents: list[Document]) -> dict[str, set[str]]:
    children: dict[str, set[str]] = {}
    for document in documents:
        for parent in document["parents"] or ():
            children.setdefault(parent, set()).add(document["uuid"])
    return children


def _retry(controller: JobController, document: Document, attempts: int) -> int:
    db_id = document["db_id"]
    if document["state"] == "REMOTE_ERROR" and document["remote"]["step_attempts"] >= attempts:
        # Something beside the job failed, such as a transfer: go on with that step.
        controller.retry_job(db_id=db_id, wait=LOCK_WAIT)
        return 1
    changed = controller.rerun_job(db_id=db_id, force=True, wait=LOCK_WAIT, delete_files=False)
    controller.jobs.update_many({"db_id": {"$in": changed}}, {"$inc": {"retries": 1}})
    return len(changed)


def _turn(controller: JobController, run: str, states: Sequence[str], state: str) -> int:
    """Bring jobs from some states into another, all at once: one by one takes minutes."""
    count = 0
    for flow in _flows(controller, run):
        with _locked(controller, flow):
            uuids = controller.get_job_uuids([flow])
            criteria = {"uuid": {"$in": uuids}, "state": {"$in": states}, "lock_id": None}
            changed = controller.jobs.update_many(criteria, {"$set": {"state": state}})
            count += changed.modified_count
            controller.refresh_children(uuids)
            controller.update_flow_state(flow_uuid=flow)
    return count


@contextlib.contextmanager
def _locked(controller: JobController, flow: str) -> Iterator[None]:
    wait = {"sleep": 1, "max_wait": LOCK_WAIT}
    with controller.lock_flow(filter={"uuid": flow}, projection=["uuid"], **wait) as lock:
        if lock.locked_document is None:
            raise EngineError(
                "a runner of jobflow-remote is at work on the run and does not end, or was killed: "
                "try again; if no runner runs, remove its lock with: jf flow unlock"
            )
        yield


def _place_all(controller: JobController, run: str, placement: Placement) -> int:
    fresh = {"job.metadata.run": run, "job.metadata.placement": {"$ne": placement}}
    unbegun = fresh | {"state": {"$in": list(_IDLE)}, "lock_id": None}
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
    """Yield which jobs take which place, as `ionloop.makers.base.place` has it."""
    light, role = "job.metadata.light", "job.metadata.role"
    yield {light: True}, place_of(LIGHT, placement) or {}
    for name, config in placement.items():
        yield {light: {"$ne": True}, role: name}, config
    yield {light: {"$ne": True}, role: {"$nin": list(placement)}}, placement["default"]


def _each(action: Callable[..., Any], db_ids: Iterable[str]) -> int:
    count = 0
    for db_id in db_ids:
        with contextlib.suppress(ValueError):  # its state has changed meanwhile
            action(db_id=db_id, wait=LOCK_WAIT)
            count += 1
    return count


def _repeat(controller: JobController, run: str, action: Callable[[], int]) -> int:
    """Act, and act again, until nothing is under way that may ask for more jobs."""
    deadline = time.monotonic() + PATIENCE
    count = action()
    while planning := _planning(controller, run):
        if time.monotonic() > deadline:
            raise EngineError(
                f"{count} jobs were changed, but {', '.join(planning)} may ask for more and has "
                "not ended: see that a runner runs (jf runner status), then repeat"
            )
        time.sleep(1)
        count += action()
    return count


def _planning(controller: JobController, run: str) -> list[str]:
    criteria = {"state": {"$in": list(_ACTIVE)}, "job.metadata.light": True}
    return [each["job"]["name"] for each in _find(controller, run, criteria)]
