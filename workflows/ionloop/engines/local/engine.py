"""The local runner behind the interface of the workflow engines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobflow.core.flow import Flow

from ionloop.engines.base import EngineError, concerned
from ionloop.engines.local.journal import LIVE, Journal
from ionloop.engines.local.lock import living_runner
from ionloop.engines.local.runner import LocalRunner
from ionloop.jobs.placement import Placement
from ionloop.schemas.job import JobRow
from ionloop.stores.connect import collection, open_store
from ionloop.stores.journal import journal_rows


@dataclass(frozen=True)
class LocalEngine:
    """Runs flows on this machine, in the background.

    Attributes
    ----------
    store_url
        URL or path of the run's store.
    scratch
        Folder for the scratch folders of the jobs.
    """

    store_url: str
    scratch: Path

    def check(self, placement: Placement) -> list[str]:
        """Return nothing: this machine needs no placement."""
        return []

    def submit(self, flow: Flow, run: str, placement: Placement) -> None:
        """Enter a flow into the journal and begin to run it in the background.

        Parameters
        ----------
        flow
            What to run.
        run
            Id of the run, new in the store.
        placement
            Not used: this machine is the only place.
        """
        self._local().submit(flow, run)
        self.proceed(run)

    def jobs(self, run: str) -> list[JobRow]:
        """Return all jobs of a run, in the order in which they came."""
        with closing(open_store(self.store_url)) as store:
            return journal_rows(store, run)

    def retry(self, run: str, role: str | None = None, error: str | None = None) -> int:
        """Put failed jobs back, and those skipped because of them, and go on in the background.

        Parameters
        ----------
        run
            Id of the run.
        role
            Only jobs of this role.
        error
            Only jobs whose error contains this text.
        """
        self.refuse_at_work(run)
        again = {row.job_id for row in concerned(self.jobs(run), role, error)}
        if not again:
            return 0
        with closing(open_store(self.store_url)) as store:
            journal = Journal(collection(store, "jobs"), run)
            failed = journal.entries({"job_id": {"$in": sorted(again)}})
            journal.put_back([*failed, *journal.entries({"state": "skipped"})])
        self.proceed(run)
        return len(again)

    def recover(self, run: str) -> int:
        """Return 0: the runner itself tries again what was lost."""
        return 0

    def pause(self, run: str) -> int:
        """Ask the runner to stop; jobs that it interrupts run again when the run goes on."""
        runner = self._runner(run)
        if runner is None:
            return 0
        if runner["host"] != socket.gethostname():
            raise EngineError(
                f"run {run!r} is run by process {runner['pid']} on {runner['host']}: pause it there"
            )
        # Not SIGINT, which a runner that a script started with & ignores.
        os.kill(runner["pid"], signal.SIGTERM)
        return sum(row.state in LIVE for row in self.jobs(run))

    def proceed(self, run: str) -> int:
        """Go on with a run in the background; its output is in ``ionloop.log``."""
        self.refuse_at_work(run)
        folder = self._local().folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "ionloop.cli", "resume", run, "--store", self.store_url]
        with (folder / "ionloop.log").open("ab") as log:
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return sum(row.state in LIVE for row in self.jobs(run))

    def cancel(self, run: str) -> int:
        """Cancel all jobs that have not ended; labels and models stay in the store."""
        self.refuse_at_work(run)
        rows = [row for row in self.jobs(run) if row.state in LIVE]
        with closing(open_store(self.store_url)) as store:
            journal = Journal(collection(store, "jobs"), run)
            for row in rows:
                error = {"summary": f"{row.name} was cancelled on request"}
                journal.change(row.job_id, state="cancelled", stop="run", error=error)
        return len(rows)

    def place(self, run: str, placement: Placement) -> int:
        """Return 0: this machine has no other places.

        Parameters
        ----------
        run
            Id of the run.
        placement
            Not used.
        """
        return 0

    def _local(self) -> LocalRunner:
        return LocalRunner(store_url=self.store_url, scratch=self.scratch)

    def refuse_at_work(self, run: str) -> None:
        """Raise if a runner is at work on a run.

        Raises
        ------
        EngineError
            With what to do first.
        """
        if self._runner(run) is not None:
            raise EngineError(f"run {run!r} is at work: pause it first, with: ionloop pause {run}")

    def _runner(self, run: str) -> dict[str, Any] | None:
        """Return the process that runs the run, if it lives."""
        with closing(open_store(self.store_url)) as store:
            return living_runner(collection(store, "runs"), run)
