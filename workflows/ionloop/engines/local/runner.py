"""Run jobflow flows on this machine: several jobs side by side, resumable after any interruption.

The embedded default, not a scheduler. Each job runs in a process of its own. All that happened is
in the journal (:mod:`ionloop.engines.local.journal`), so a run that was killed continues with
:meth:`LocalRunner.resume` and runs no finished job again.

Examples
--------
>>> runner = LocalRunner("run.db", scratch=Path("scratch"), cores=4)  # doctest: +SKIP
>>> summary = runner.run(flow, run="lgps")  # doctest: +SKIP
>>> summary.ok  # doctest: +SKIP
True
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ionloop.engines.local.execution import Execution, RunSummary, safe_file_name
from ionloop.engines.local.journal import Journal, JournalError
from ionloop.engines.local.lock import run_lock, wait_for_workers
from ionloop.engines.local.processes import end_leftover, stop_requests
from ionloop.engines.local.progress import Silent
from ionloop.stores.connect import collection, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobflow.core.flow import Flow
    from jobflow.core.job import Job
    from jobflow.core.store import JobStore

    from ionloop.engines.local.lock import RunLock
    from ionloop.engines.local.progress import Observer


@dataclass(frozen=True, kw_only=True)
class LocalRunner:
    """Runs flows on this machine.

    Attributes
    ----------
    store_url
        URL or path of the job store, as :func:`ionloop.stores.connect.open_store` takes it.
    scratch
        Folder for the scratch folders of the jobs, one folder per run.
    cores
        Cores that jobs may use together; a job asks by ``metadata["cores"]`` (default 1). One that
        asks for none only waits for what others do.
    keep
        Which scratch folders stay: those of failed jobs, or all.
    env
        Environment variables of the jobs, over the default of one thread per process.
    progress
        Hears of every change.
    retries
        How often a job is tried again whose process died.
    """

    store_url: str
    scratch: Path
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    keep: Literal["failed", "all"] = "failed"
    env: Mapping[str, str] = field(default_factory=dict)
    progress: Observer = field(default_factory=Silent)
    retries: int = 1

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
        with self._own(run) as (store, _):
            _journal(store, run).submit(flow)

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
        with self._own(run) as (store, lock), stop_requests() as requests:
            journal = _journal(store, run)
            if not journal.submitted():
                raise JournalError(f"run {run!r} has no jobs in {self.store_url}: submit it first")
            end_leftovers(journal, self.folder(run))
            recover(journal, store, retry_failed)
            with contextlib.closing(self.progress):
                return Execution(self, store, journal, lock, requests).to_end()

    def folder(self, run: str) -> Path:
        """Scratch folder of a run."""
        return self.scratch.absolute() / safe_file_name(run)

    @contextlib.contextmanager
    def _own(self, run: str) -> Iterator[tuple[JobStore, RunLock]]:
        with (
            contextlib.closing(open_store(self.store_url)) as store,
            run_lock(collection(store, "runs"), run, self.folder(run)) as lock,
        ):
            yield store, lock


def end_leftovers(journal: Journal, folder: Path) -> None:
    """End the workers that a dead runner left behind.

    Parameters
    ----------
    journal
        Journal of the run.
    folder
        Scratch folder of the run.
    """
    for entry in journal.entries({"state": "running", "host": socket.gethostname()}):
        if entry.pid is not None and entry.process_created is not None:
            end_leftover(entry.pid, entry.process_created)
    wait_for_workers(folder / "workers.lock")


def recover(journal: Journal, store: JobStore, retry_failed: bool) -> None:
    """Bring the journal of a run that nobody runs into a state to start from.

    What failed by a tolerance is tried again: a tolerance may have been changed since.

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


def _journal(store: JobStore, run: str) -> Journal:
    return Journal(collection(store, "jobs"), run)
