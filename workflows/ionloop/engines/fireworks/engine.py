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
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pymongo.errors import PyMongoError

from ionloop.engines.base import EngineError, concerned, prepare
from ionloop.engines.fireworks import launchpad
from ionloop.engines.fireworks.queue import end_in_queue
from ionloop.engines.fireworks.records import IDLE, LIVE, UNBEGUN, RunRecords, tries
from ionloop.engines.fireworks.recovery import free_lock, lost_jobs, relaunch, repair
from ionloop.jobs.placement import Placement
from ionloop.programs.errors import MissingExtraError
from ionloop.schemas.job import JobRow
from ionloop.stores.connect import open_store

if TYPE_CHECKING:
    from fireworks import LaunchPad
    from jobflow.core.flow import Flow


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
        """Return the problems that prevent running, a sentence each."""
        problems = []
        if not os.path.expandvars(self.store_url).startswith(("mongodb://", "mongodb+srv://")):
            problems.append(
                f"store {self.store_url}: FireWorks' workers need a store on a server; "
                "set store: mongodb://host/database"
            )
        try:
            with self._launchpad() as pad:
                launchpad.check_initialised(pad)
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
        with self._launchpad() as pad:
            launchpad.check_initialised(pad)
            from ionloop.engines.fireworks.task import workflow_of

            if pad.workflows.count_documents({"metadata.run": run}):
                raise EngineError(f"run {run!r} is on the LaunchPad already; choose another name")
            placed = prepare(flow, run, self.store_url, launchpad.with_priority(placement))
            pad.workflows.create_index("metadata.run")
            pad.fireworks.create_index("spec.run")
            with contextlib.closing(open_store(self.store_url)) as store:
                pad.add_wf(workflow_of(placed, store, name=run, metadata={"run": run}))

    def jobs(self, run: str) -> list[JobRow]:
        """Return all jobs of a run, in the order in which they came."""
        with self._launchpad() as pad:
            return RunRecords.read(pad, run).rows()

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
            Only jobs whose error contains this text.

        Raises
        ------
        EngineError
            If the LaunchPad does not have the run.
        """
        brought_back = self.recover(run)
        with self._launchpad() as pad:
            records = launchpad.known_run(pad, run)
            asked = {int(row.job_id) for row in concerned(records.rows(), role, error)}
            chosen = {fw_id for fw_id in asked if not records.has_gone_on_without(fw_id)}
            # Those that wait for another of them are run again with it.
            first = chosen - {after for fw_id in chosen for after in records.after(fw_id)}
            by_tries: dict[int, list[int]] = defaultdict(list)
            for fw_id in chosen:
                by_tries[tries(records.fireworks[fw_id])].append(fw_id)
            for number, fw_ids in by_tries.items():
                pad.update_spec(fw_ids, {"forgiven": number})
            launchpad.rerun(pad, first)
        return brought_back + len(chosen)

    def recover(self, run: str) -> int:
        """Launch jobs again that lost their worker; repair what a killed worker left half done.

        A worker is lost if it no longer pings the LaunchPad, or if its job is gone from the queue.
        The job goes on in its old folder, where its checkpoint is. Call this regularly while a run
        is active, on the machine from which jobs go to the queue.

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
        from fireworks import fw_config

        silence = float(self.lost_after or fw_config.RUN_EXPIRATION_SECS)
        with self._launchpad() as pad:
            records = launchpad.known_run(pad, run)
            free_lock(pad, run)
            repair(pad, run)
            lost = sorted(lost_jobs(pad, records, self.queue_adapter, silence))
            again = [fw_id for fw_id in lost if relaunch(pad, records, fw_id, self.max_tries)]
            if pad.workflows.count_documents({"metadata.run": run, "metadata.paused": True}):
                self._hold(pad, run)
        return len(again)

    def pause(self, run: str) -> int:
        """Hold jobs that have not begun; return how many.

        A job that runs goes on; what it leads to is held by the next `recover`.

        Raises
        ------
        EngineError
            If the LaunchPad does not have the run.
        """
        with self._launchpad() as pad:
            launchpad.known_run(pad, run)
            launchpad.mark_paused(pad, run, paused=True)
            return self._hold(pad, run)

    def proceed(self, run: str) -> int:
        """Release jobs that were held; return how many.

        Raises
        ------
        EngineError
            If the LaunchPad does not have the run.
        """
        with self._launchpad() as pad:
            records = launchpad.known_run(pad, run)
            launchpad.mark_paused(pad, run, paused=False)
            held = records.of_state("PAUSED")
            # Of one that was reserved, FireWorks would think that it still is.
            launched = {fw_id for fw_id in held if records.fireworks[fw_id]["launches"]}
            launchpad.rerun(pad, launched)
            launchpad.set_state(pad, set(held) - launched, ("PAUSED",), "WAITING")
        return len(held)

    def cancel(self, run: str) -> int:
        """End all jobs that run or wait, for good; return how many.

        Jobs in the queue are ended by the queue, or named in the log where that fails. A job that
        runs outside a queue runs to its end, and nothing follows from it.

        Raises
        ------
        EngineError
            If the LaunchPad does not have the run.
        """
        ended: set[int] = set()
        with self._launchpad() as pad:
            records = launchpad.known_run(pad, run)
            # A worker may start a job, or complete one that leads to others, in the meantime.
            while unfinished := records.of_state(*LIVE, *IDLE):
                live = records.of_state(*LIVE)
                self._end_in_queue(records, live)
                for fw_id in live:
                    pad.defuse_fw(fw_id)
                launchpad.set_state(pad, set(unfinished) - set(live), IDLE, "DEFUSED")
                ended |= set(unfinished)
                records = RunRecords.read(pad, run)
        return len(ended)

    def place(self, run: str, placement: Placement) -> int:
        """Give jobs that have not begun, and all that follow, other resources; return how many.

        Jobs that wait in the queue are taken back. What a job leads to that runs at this moment
        still gets the old resources.

        Parameters
        ----------
        run
            Id of the run.
        placement
            Configuration of the engine by role.

        Raises
        ------
        EngineError
            If the LaunchPad does not have the run.
        """
        with self._launchpad() as pad:
            records = launchpad.known_run(pad, run)
            reserved = records.of_state("RESERVED")
            self._end_in_queue(records, reserved)
            launchpad.rerun(pad, reserved)
            unbegun = launchpad.known_run(pad, run).of_state(*IDLE, "FIZZLED")
            launchpad.replace(pad, unbegun, launchpad.with_priority(placement))
        return len(unbegun)

    def _launchpad(self) -> contextlib.AbstractContextManager[LaunchPad]:
        return launchpad.opened(self.launchpad)

    def _hold(self, pad: LaunchPad, run: str) -> int:
        records = RunRecords.read(pad, run)
        self._end_in_queue(records, records.of_state("RESERVED"))
        return launchpad.set_state(pad, records.of_state(*UNBEGUN), UNBEGUN, "PAUSED")

    def _end_in_queue(self, records: RunRecords, fw_ids: list[int]) -> None:
        end_in_queue(self.queue_adapter, records.queue_ids(fw_ids))
