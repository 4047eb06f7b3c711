"""Run flows through FireWorks: a LaunchPad, and whatever takes jobs from it.

The LaunchPad, the FireWorkers and the queue adapters are the user's own, with their own
configuration; ionloop adds workflows to the LaunchPad and changes their states by its methods.

Examples
--------
>>> engine = FireworksEngine("mongodb://host/ionloop")  # doctest: +SKIP
>>> engine.submit(flow, "lgps", placement)  # doctest: +SKIP
>>> engine.jobs("lgps")[0].state  # doctest: +SKIP
<JobState.WAITING: 'waiting'>
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ionloop.engines.base import LIGHT, EngineError, concerned, prepare
from ionloop.engines.fireworks.queue import Queue
from ionloop.engines.fireworks.table import Table, queue_id, tries
from ionloop.jobs.placement import place_of
from ionloop.programs.errors import MissingExtraError
from ionloop.schemas.job import STORE_INPUTS, JobRow, in_utc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from jobflow.core.flow import Flow

    from ionloop.jobs.placement import Placement


UNBEGUN = ("WAITING", "READY", "RESERVED")

IDLE = ("WAITING", "READY", "PAUSED")

LIVE = ("RESERVED", "RUNNING")

LIGHT_PRIORITY = 1
"""Jobs that only keep the books go first: others wait for them."""

LOCK_PATIENCE = 30.0
"""A lock of a workflow that is held for so long, in s, with nothing changing, has no holder."""


@dataclass(frozen=True)
class FireworksEngine:
    """Runs flows through FireWorks.

    Attributes
    ----------
    store_url
        URL of the run's store, on a server that all workers reach.
    launchpad
        File of the LaunchPad; by default the user's own ``my_launchpad.yaml``, where FireWorks
        looks for it.
    queue_adapter
        File of the queue adapter, for the command that ends jobs in the queue; by default the
        user's own ``my_qadapter.yaml``.
    max_tries
        How often a job is launched whose worker is lost each time.
    lost_after
        Time without a ping in s after which a worker is lost; by default FireWorks' own
        ``RUN_EXPIRATION_SECS``. Several times the ``PING_TIME_SECS`` of the workers.
    """

    store_url: str
    launchpad: Path | None = None
    queue_adapter: Path | None = None
    max_tries: int = 5
    lost_after: float | None = None

    def check(self, placement: Placement) -> list[str]:
        """Return what stands against running, a sentence each."""
        from pymongo.errors import PyMongoError

        problems = []
        if not os.path.expandvars(self.store_url).startswith(("mongodb://", "mongodb+srv://")):
            problems.append(
                f"store {self.store_url}: FireWorks' workers need a store on a server; "
                "set store: mongodb://host/database"
            )
        try:
            self._check_initialised()
        except (EngineError, MissingExtraError, PyMongoError) as error:
            problems.append(str(error))
        return problems

    def submit(self, flow: Flow, run: str, placement: Placement) -> None:
        """Add a flow to the LaunchPad and return at once.

        Parameters
        ----------
        flow
            What to run.
        run
            Id of the run, new on this LaunchPad.
        placement
            Keys of the spec by role, as `ionloop.engines.resources.fireworks_config` gives them.

        Raises
        ------
        EngineError
            If the LaunchPad has the run already, or is not initialised.
        """
        self._check_initialised()
        from ionloop.engines.fireworks.task import workflow_of
        from ionloop.stores.connect import open_store

        if self._pad.workflows.count_documents({"metadata.run": run}):
            raise EngineError(f"run {run!r} is on the LaunchPad already; choose another name")
        placed = prepare(flow, run, self.store_url, _ranked(placement))
        self._pad.workflows.create_index("metadata.run")
        self._pad.fireworks.create_index("spec.run")
        with contextlib.closing(open_store(self.store_url)) as store:
            workflow = workflow_of(placed, store, name=run, metadata={"run": run})
            self._pad.add_wf(workflow)

    def jobs(self, run: str) -> list[JobRow]:
        """Return all jobs of a run, in the order in which they came."""
        return self._table(run).rows()

    def retry(self, run: str, role: str | None = None, error: str | None = None) -> int:
        """Try failed jobs again, also those whose worker was lost; return how many.

        A failed job that the run did without is left: what follows from it has been done.

        Parameters
        ----------
        run
            Id of the run.
        role
            Only jobs of this role.
        error
            Only jobs whose error holds this text.

        Raises
        ------
        EngineError
            If the LaunchPad does not have the run.
        """
        brought_back = self.tend(run)
        table = self._known(run)
        asked = {int(row.job_id) for row in concerned(table.rows(), role, error)}
        chosen = {fw_id for fw_id in asked if not _outrun(table, fw_id)}
        # Those that wait for another of them are run again with it.
        first = chosen - {after for fw_id in chosen for after in table.after(fw_id)}
        for number, fw_ids in _by_tries(table, chosen).items():
            self._pad.update_spec(fw_ids, {"forgiven": number})
        self._rerun(first)
        return brought_back + len(chosen)

    def tend(self, run: str) -> int:
        """Launch again what lost its worker; mend what a killed worker left halfway.

        A worker is lost if it no longer pings the LaunchPad, or if its job is gone from the queue.
        The job goes on in its old folder, where its checkpoint is. To be called now and then while
        a run is on, on the machine from which jobs go to the queue.

        Parameters
        ----------
        run
            Id of the run.

        Returns
        -------
        int
            Number of jobs that wait again.

        Raises
        ------
        EngineError
            If the LaunchPad does not have the run.
        """
        table = self._known(run)
        self._free_lock(run)
        self._mend(run)
        lost = self._lost(table) | self._forgotten(table)
        again = [fw_id for fw_id in sorted(lost) if self._relaunch(table, fw_id)]
        if self._marked(run, "paused"):
            self._hold(run)
        return len(again)

    def pause(self, run: str) -> int:
        """Hold what has not begun; return how many jobs.

        A job that runs, runs on; what it leads to is held when `tend` comes by.

        Raises
        ------
        EngineError
            If the LaunchPad does not have the run.
        """
        self._known(run)
        self._mark(run, paused=True)
        return self._hold(run)

    def proceed(self, run: str) -> int:
        """Release what was held; return how many jobs.

        Raises
        ------
        EngineError
            If the LaunchPad does not have the run.
        """
        table = self._known(run)
        self._mark(run, paused=False)
        held = table.of_state("PAUSED")
        # One that was reserved would be taken for reserved again.
        launched = {fw_id for fw_id in held if table.fireworks[fw_id]["launches"]}
        self._rerun(launched)
        self._set_state(set(held) - launched, ("PAUSED",), "WAITING")
        return len(held)

    def cancel(self, run: str) -> int:
        """End what runs and what waits, for good; return how many jobs.

        Jobs in the queue are ended by the queue, or named in the log where that fails. A job that
        runs outside a queue runs to its end, and nothing follows from it.

        Raises
        ------
        EngineError
            If the LaunchPad does not have the run.
        """
        self._known(run)
        ended: set[int] = set()
        # A worker may start a job, or end one that leads to others, in the meantime.
        while going := (table := self._table(run)).of_state(*LIVE, *IDLE):
            live = table.of_state(*LIVE)
            self._end_in_queue(table, live)
            for fw_id in live:
                self._pad.defuse_fw(fw_id)
            self._set_state(set(going) - set(live), IDLE, "DEFUSED")
            ended |= set(going)
        return len(ended)

    def place(self, run: str, placement: Placement) -> int:
        """Give what has not begun, and all that follows, other resources; return how many jobs.

        Jobs that wait in the queue are taken back. What a job leads to that runs at this moment
        still gets the old resources.

        Raises
        ------
        EngineError
            If the LaunchPad does not have the run.
        """
        table = self._known(run)
        reserved = table.of_state("RESERVED")
        self._end_in_queue(table, reserved)
        self._rerun(reserved)
        unbegun = self._known(run).of_state(*IDLE, "FIZZLED")
        for change, fw_ids in self._changes(unbegun, _ranked(placement)).items():
            self._pad.update_spec(fw_ids, json.loads(change), mongo=True)
        return len(unbegun)

    @cached_property
    def _pad(self) -> Any:
        try:
            from fireworks import LaunchPad, fw_config
        except ImportError as error:
            raise MissingExtraError(
                "fireworks", "fireworks", "running through FireWorks"
            ) from error
        from monty.serialization import loadfn

        file = self.launchpad or fw_config.LAUNCHPAD_LOC
        if file is None:
            # FireWorks itself would take a server on this machine.
            raise EngineError(
                "FireWorks: no my_launchpad.yaml here or in ~/.fireworks, and no LAUNCHPAD_LOC in "
                "FW_config.yaml; make one with: lpad init"
            )
        if not Path(file).is_file():
            raise EngineError(f"FireWorks: there is no LaunchPad file {file}")
        return LaunchPad.from_dict(loadfn(file) | {"strm_lvl": "CRITICAL"})

    @property
    def _expiration(self) -> float:
        from fireworks import fw_config

        return float(self.lost_after or fw_config.RUN_EXPIRATION_SECS)

    def _check_initialised(self) -> None:
        if self._pad.fw_id_assigner.find_one({}) is None:
            raise EngineError(
                f"the LaunchPad (database {self._pad.name}) is not initialised; "
                "run once: lpad reset"
            )

    def _table(self, run: str) -> Table:
        return Table.read(self._pad, run)

    def _known(self, run: str) -> Table:
        table = self._table(run)
        if not table.fireworks:
            raise EngineError(f"run {run!r} is not on the LaunchPad (database {self._pad.name})")
        return table

    def _hold(self, run: str) -> int:
        table = self._table(run)
        self._end_in_queue(table, table.of_state("RESERVED"))
        return self._set_state(table.of_state(*UNBEGUN), UNBEGUN, "PAUSED")

    # The LaunchPad has methods for the three that follow, but for one job at a time: 0.1 s each,
    # and more the more jobs there are.
    def _set_state(self, fw_ids: Collection[int], old: tuple[str, ...], new: str) -> int:
        """Set the state of idle jobs, and what follows from it; return how many were idle."""
        idle = {"fw_id": {"$in": list(fw_ids)}, "state": {"$in": old}}
        change = {"$set": {"state": new, "updated_on": datetime.now(UTC)}}
        changed: int = self._pad.fireworks.update_many(idle, change).modified_count
        self._update(fw_ids, "refresh")
        return changed

    def _rerun(self, fw_ids: Collection[int]) -> None:
        """Put jobs back, and those that went on after them."""
        fresh = {"$unset": {"spec._recovery": ""}}
        self._pad.fireworks.update_many({"fw_id": {"$in": list(fw_ids)}}, fresh)
        self._update(fw_ids, "rerun_fw")

    def _update(self, fw_ids: Collection[int], method: Literal["refresh", "rerun_fw"]) -> None:
        from fireworks.core.launchpad import WFLock

        if not fw_ids:
            return
        first = next(iter(fw_ids))
        with WFLock(self._pad, first):
            workflow = self._pad.get_wf_by_fw_id_lzyfw(first)
            updated: set[int] = set()
            for fw_id in fw_ids:
                updated |= set(getattr(workflow, method)(fw_id))
            self._pad._update_wf(workflow, updated)

    def _end_in_queue(self, table: Table, fw_ids: Iterable[int]) -> None:
        numbers = table.queue_ids(fw_ids)
        queue = Queue.of(self.queue_adapter) if numbers else None
        if numbers and not (queue and queue.end(numbers)):
            logging.getLogger(__name__).warning(
                "the queue did not end its jobs %s, do it by hand: %s",
                ", ".join(numbers),
                "its command failed" if queue else "no my_qadapter.yaml says which queue it is",
            )

    def _lost(self, table: Table) -> set[int]:
        """Jobs whose worker is silent, or whose job in the queue is no more."""
        query = {"fw_id": {"$in": list(table.links)}}
        _, silent, _ = self._pad.detect_lostruns(self._expiration, query=query)
        queued = self._queued(table)
        queue = Queue.of(self.queue_adapter) if queued else None
        present = queue.present() if queue else None
        if present is None:
            return set(silent)
        there = {fw_id for fw_id, number in queued.items() if number in present}
        # The thread that pings ends for good when the database is away, and the job runs on.
        return (set(silent) | queued.keys()) - there

    def _queued(self, table: Table) -> dict[int, str]:
        """Numbers in the queue, of jobs in folders seen here: others are of another machine."""
        launches = {fw_id: table.launches.get(fw_id, {}) for fw_id in table.of_state(*LIVE)}
        return {
            fw_id: number
            for fw_id, launch in launches.items()
            if (number := queue_id(launch)) and Path(launch["launch_dir"]).is_dir()
        }

    def _forgotten(self, table: Table) -> set[int]:
        """Jobs that were reserved by a launcher which died before the queue had them."""
        limit = datetime.now(UTC) - timedelta(seconds=self._expiration)
        return {
            fw_id
            for fw_id in table.of_state("RESERVED")
            if queue_id(table.launches.get(fw_id, {})) is None
            and _moment(table.fireworks[fw_id]["updated_on"]) < limit
        }

    def _relaunch(self, table: Table, fw_id: int) -> bool:
        firework = table.fireworks[fw_id]
        launch = firework["launches"][-1] if firework["launches"] else None
        # It may have ended, or somebody else have seen to it, since the table was read.
        same = {"fw_id": fw_id, "state": firework["state"], "launches": firework["launches"]}
        if not self._pad.fireworks.count_documents(same):
            return False
        if launch and tries(firework) - firework["spec"].get("forgiven", 0) >= self.max_tries:
            self._pad.mark_fizzled(launch)
            return False
        recovery = self._pad.get_recovery(launch) if launch else None
        mode = {"recover_launch": "last", "recover_mode": "prev_dir"} if recovery else {}
        self._pad.rerun_fw(fw_id, **mode)
        return True

    def _free_lock(self, run: str) -> None:
        from fireworks.core.launchpad import WFLock

        held = self._lock(run)
        deadline = time.monotonic() + LOCK_PATIENCE
        while held is not None and self._lock(run) == held:
            if time.monotonic() > deadline:
                with WFLock(self._pad, held[0], expire_secs=0, kill=True):
                    return
            time.sleep(0.5)

    def _lock(self, run: str) -> tuple[int, str] | None:
        locked = {"metadata.run": run, "locked": {"$exists": True}}
        found = self._pad.workflows.find_one(locked, {"nodes": 1, "updated_on": 1})
        return (found["nodes"][0], str(found["updated_on"])) if found else None

    def _mend(self, run: str) -> None:
        """Bring a workflow and its fireworks together again.

        A worker enters what a job leads to firework by firework, then the job itself as
        completed, then the workflow; killed in between, it leaves fireworks of no workflow.
        """
        with self._locked(run):
            table = self._table(run)
            stray = {"spec.run": run, "fw_id": {"$nin": list(table.links)}}
            self._pad.fireworks.delete_many(stray)
            undone = [fw_id for fw_id in table.fireworks if table.half_entered(fw_id)]
            change = {"$set": {"state": "RUNNING"}}
            self._pad.fireworks.update_many({"fw_id": {"$in": undone}}, change)
        table = self._table(run)
        for fw_id in table.of_state("RUNNING"):
            if table.launches.get(fw_id, {}).get("state") == "COMPLETED":
                self._pad._refresh_wf(fw_id)

    @contextlib.contextmanager
    def _locked(self, run: str) -> Iterator[None]:
        from fireworks.core.launchpad import WFLock

        (first, *_) = self._table(run).links
        with WFLock(self._pad, first):
            yield

    def _mark(self, run: str, **marks: bool) -> None:
        # A worker that holds the lock would write over it.
        with self._locked(run):
            change = {f"metadata.{name}": value for name, value in marks.items()}
            self._pad.workflows.update_one({"metadata.run": run}, {"$set": change})

    def _marked(self, run: str, name: str) -> bool:
        marked = {"metadata.run": run, f"metadata.{name}": True}
        return bool(self._pad.workflows.count_documents(marked))

    def _changes(self, fw_ids: list[int], placement: Placement) -> dict[str, list[int]]:
        """Return the changes of specs, and the jobs for which each is."""
        fields = ("metadata", "metadata_updates", "config", "config_updates")
        wanted = ["fw_id", *(f"spec._tasks.job.{field}" for field in fields)]
        found = self._pad.fireworks.find({"fw_id": {"$in": fw_ids}}, dict.fromkeys(wanted, 1))
        changes: dict[str, list[int]] = defaultdict(list)
        for firework in found:
            job = firework["spec"]["_tasks"][0]["job"]
            changes[json.dumps(_replacement(job, placement))].append(firework["fw_id"])
        return changes


def _ranked(placement: Placement) -> Placement:
    light = place_of(LIGHT, placement) or {}
    return {**placement, "select": {"_priority": LIGHT_PRIORITY, **light}}


def _outrun(table: Table, fw_id: int) -> bool:
    states = {table.fireworks[after]["state"] for after in table.after(fw_id)}
    return bool(states & {"COMPLETED", "RUNNING"})


def _by_tries(table: Table, fw_ids: Iterable[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for fw_id in fw_ids:
        found[tries(table.fireworks[fw_id])].append(fw_id)
    return found


def _moment(text: Any) -> datetime:
    return in_utc(datetime.fromisoformat(str(text)))


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
