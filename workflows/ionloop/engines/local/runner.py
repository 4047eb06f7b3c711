"""Run jobflow flows on this machine: several jobs at a time, resumable after any interruption.

Each job runs in a process of its own. The journal (:mod:`ionloop.engines.local.journal`) records
everything that happened, so :meth:`LocalRunner.resume` continues a run that was killed, and runs
no finished job again.

Examples
--------
>>> runner = LocalRunner("run.db", scratch=Path("scratch"), cores=4)  # doctest: +SKIP
>>> summary = runner.run(flow, run="lgps")  # doctest: +SKIP
>>> summary.ok  # doctest: +SKIP
True
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobflow.core.flow import Flow
from jobflow.core.job import Job
from jobflow.core.store import JobStore

from ionloop.engines.local.execution import Execution, RunnerSettings, RunSummary
from ionloop.engines.local.journal import Journal, JournalError
from ionloop.engines.local.lock import WORKERS_LOCK, RunLock, run_lock, wait_for_workers
from ionloop.engines.local.processes import kill_orphan, stop_requests
from ionloop.stores.connect import collection, open_store


@dataclass(frozen=True, kw_only=True)
class LocalRunner(RunnerSettings):
    """Runs flows on this machine, as its settings say."""

    def run(self, flow: Flow | Job | list[Job], run: str) -> RunSummary:
        """Submit a flow and run it to its end.

        Parameters
        ----------
        flow
            What to run.
        run
            Id of the run, new in this store.

        Raises
        ------
        JournalError
            If the run exists already.
        RunLockedError
            If another runner works on the run.
        """
        self.submit(flow, run)
        return self.resume(run)

    def submit(self, flow: Flow | Job | list[Job], run: str) -> None:
        """Enter a flow into the journal; nothing runs yet.

        Parameters
        ----------
        flow
            What to run.
        run
            Id of the run, new in this store.

        Raises
        ------
        JournalError
            If the run exists already.
        RunLockedError
            If another runner works on the run.
        """
        with self._own(run) as (_, journal, _):
            journal.submit(flow)

    def resume(self, run: str, retry_failed: bool = False) -> RunSummary:
        """Run what is left of a run, to its end.

        Parameters
        ----------
        run
            Id of the run.
        retry_failed
            Whether to try failed jobs again, and those skipped because of them.

        Raises
        ------
        JournalError
            If the run was never submitted.
        RunLockedError
            If another runner works on the run.
        """
        with self._own(run) as (store, journal, lock), stop_requests() as requests:
            if not journal.submitted():
                raise JournalError(f"run {run!r} has no jobs in {self.store_url}: submit it first")
            kill_orphans(journal, self.folder(run))
            recover(journal, store, retry_failed)
            with contextlib.closing(self.progress):
                return Execution(self, store, journal, lock, requests).to_end()

    @contextlib.contextmanager
    def _own(self, run: str) -> Iterator[tuple[JobStore, Journal, RunLock]]:
        with (
            contextlib.closing(open_store(self.store_url)) as store,
            run_lock(collection(store, "runs"), run, self.folder(run)) as lock,
        ):
            yield store, Journal(collection(store, "jobs"), run), lock


def kill_orphans(journal: Journal, folder: Path) -> None:
    """Kill the workers that a dead runner left behind, and wait until they are gone.

    Parameters
    ----------
    journal
        Journal of the run.
    folder
        Scratch folder of the run.
    """
    for entry in journal.entries({"state": "running", "host": socket.gethostname()}):
        if entry.pid is not None and entry.process_created is not None:
            kill_orphan(entry.pid, entry.process_created)
    wait_for_workers(folder / WORKERS_LOCK)


def recover(journal: Journal, store: JobStore, retry_failed: bool) -> None:
    """Prepare the journal of a run that no process runs, so that it can go on.

    A job that failed because of a tolerance runs again: the tolerance may have been changed since.

    Parameters
    ----------
    journal
        Journal of the run.
    store
        The job store.
    retry_failed
        Whether to put failed jobs back, and those skipped because of them.
    """
    for entry in journal.entries({"state": "finished"}):
        journal.complete(entry.job_id, store.docs_store)
    if retry_failed:
        journal.judge_last()
    again = ["running", *(["failed", "skipped"] if retry_failed else [])]
    journal.put_back(journal.entries({"state": {"$in": again}}))
    journal.put_back(journal.judged_again())
