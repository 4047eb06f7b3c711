"""One execution of a run on this machine: start jobs, wait for them, note how they ended."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from jobflow.core.store import JobStore

from ionloop.engines.local import processes, schedule
from ionloop.engines.local.journal import Entry, Journal, now
from ionloop.engines.local.lock import WORKERS_LOCK, RunLock
from ionloop.engines.local.progress import Observer, Running, Silent, Snapshot, count_by_role
from ionloop.engines.local.worker import Task
from ionloop.jobs.unfinished import UNFINISHED
from ionloop.programs.environment import BASIC_ENVIRONMENT
from ionloop.schemas.job import STORE_INPUTS
from ionloop.schemas.process import HEARTBEAT
from ionloop.stores.connect import store_file

GRACE = 5.0
"""Time that jobs get to end by themselves when the run is stopped, s."""

START_TIME = timedelta(seconds=10)
"""Time after which a worker is sure to ignore SIGUSR1; before, that signal would end it."""


@dataclass(frozen=True, kw_only=True)
class RunnerSettings:
    """How flows are run on this machine.

    Attributes
    ----------
    store_url
        URL or path of the job store, as :func:`ionloop.stores.connect.open_store` takes it.
    scratch
        Folder for the scratch folders of the jobs, one folder per run.
    cores
        Cores that jobs may use together; a job asks by ``metadata["cores"]`` (default 1). One that
        asks for none only waits for other jobs.
    keep
        Which scratch folders stay: those of failed jobs, or all.
    env
        Environment variables of the jobs, over the default of one thread per process.
    progress
        Is told of every change.
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

    def folder(self, run: str) -> Path:
        """Scratch folder of a run."""
        return self.scratch.absolute() / _safe_file_name(run)


@dataclass(frozen=True)
class Failure:
    """A job that failed.

    Attributes
    ----------
    job_id, name
        Of the job.
    summary
        A sentence that says why.
    folder
        Where its files and its log are; None if it never started.
    """

    job_id: str
    name: str
    summary: str
    folder: Path | None


@dataclass(frozen=True)
class RunSummary:
    """How a run ended.

    Attributes
    ----------
    run
        Id of the run.
    counts
        Number of jobs by state.
    failures
        The jobs that failed.
    interrupted
        Whether the run was asked to stop before its end.
    """

    run: str
    counts: Mapping[str, int]
    failures: tuple[Failure, ...]
    interrupted: bool

    @property
    def ok(self) -> bool:
        """Whether the run came to its end with no job failed."""
        return not self.interrupted and not self.failures

    @property
    def message(self) -> str:
        """The summary as text."""
        jobs = ", ".join(f"{count} {state}" for state, count in sorted(self.counts.items()))
        lines = [f"run {self.run}: {jobs}"]
        lines += [f"{each.summary} (see {each.folder})" for each in self.failures]
        if self.interrupted:
            lines.append(f"stopped on request; continue with: ionloop resume {self.run}")
        return "\n".join(lines)


def last_turn(store: JobStore, run: str) -> tuple[int, float] | None:
    """Return number and accurate fraction of the last finished turn of a run; None before it.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    """
    criteria = {"metadata.run": run, "output.@class": "IterationDoc"}
    found = store.docs_store.query(criteria, properties=["output.progress"])
    turns = [document["output"]["progress"] for document in found]
    last = max(turns, key=lambda progress: progress["index"], default=None)
    return (last["index"], last["accurate_fractions"][-1]) if last else None


@dataclass
class RunningJob:
    """A job at work.

    Attributes
    ----------
    entry
        The job in the journal.
    process
        Its process, of which all programs that it starts are children.
    shown
        What is shown of it. Its folders: the scratch folder, and the one of unfinished work.
    """

    entry: Entry
    process: BaseProcess
    shown: Running


@dataclass
class Execution:
    """Runs the jobs of one run; no other process changes the journal of idle jobs.

    Attributes
    ----------
    settings
        Cores, folders, and what becomes of failed jobs.
    store
        The job store.
    journal
        Journal of the run.
    lock
        The right to run the run, renewed at every heartbeat.
    requests
        Requests to stop.
    """

    settings: RunnerSettings
    store: JobStore
    journal: Journal
    lock: RunLock
    requests: processes.StopRequests

    def __post_init__(self) -> None:
        self.entries = {entry.job_id: entry for entry in self.journal.entries()}
        self.running: dict[int, RunningJob] = {}
        self.accurate = last_turn(self.store, self.journal.run)
        self.turn: int | None = None

    def to_end(self) -> RunSummary:
        """Run until nothing is left to do, or a request to stop."""
        try:
            while self._advance() and not self.requests.count:
                self._wait(HEARTBEAT)
                self.lock.beat()
            self._halt()
        finally:
            for job in self.running.values():
                processes.end(job.process)
        self._report()
        return self._summary()

    def _advance(self) -> bool:
        while found := schedule.skips(self.entries.values()):
            for skip in found:
                reason = {"summary": skip.reason}
                self._change(skip.entry, state="skipped", stop=skip.stop, error=reason)
        if not self.requests.count:
            able = schedule.ready(self.entries.values())
            free = self.settings.cores - sum(job.shown.cores for job in self.running.values())
            for entry in schedule.fitting(able, free, self.settings.cores):
                self._launch(entry)
        if not self.running and not self.requests.count:
            # Only jobs that wait for each other are still waiting when nothing can start.
            for entry in [each for each in self.entries.values() if each.state == "waiting"]:
                self._fail(entry, f"{entry.name} failed: it waits for a job that waits for it")
        self._end_the_wait()
        self._report()
        return bool(self.running)

    def _launch(self, entry: Entry) -> None:
        run_folder = self.settings.folder(self.journal.run)
        again = f"-{entry.index}" if entry.index > 1 else ""
        folder = run_folder / f"{_safe_file_name(entry.name)}-{entry.uuid[:8]}{again}"
        unfinished = run_folder / "unfinished"
        store_url = self.settings.store_url
        env = {**os.environ, **BASIC_ENVIRONMENT, UNFINISHED: str(unfinished), **self.settings.env}
        task = Task(
            store_url=str(store_file(store_url) or store_url),  # workers have other working folders
            run=self.journal.run,
            job_id=entry.job_id,
            folder=folder,
            lock=run_folder / WORKERS_LOCK,
            env=env,
        )
        process = processes.launch(task)
        cores = min(entry.cores, self.settings.cores)
        folders = (folder, unfinished / entry.job_id)
        shown = Running(entry.name, entry.role, cores, datetime.now(UTC), folders)
        self.running[process.sentinel] = RunningJob(entry, process, shown)
        self.entries[entry.job_id] = replace(entry, state="running")

    def _wait(self, seconds: float) -> None:
        ready = connection.wait([self.requests.reader, *self.running], timeout=seconds)
        for sentinel in ready:
            if sentinel in self.running:
                self._settle(self.running.pop(sentinel))
            else:
                self.requests.clear()

    def _settle(self, job: RunningJob) -> None:
        exit_code = processes.end(job.process)
        entry = job.entry
        state = self.journal.read(entry.job_id)["state"]
        if state == "finished":
            self._complete(job)
        elif self.requests.count:
            self._change(entry, state="waiting", error=None, tries=entry.tries)
        elif state == "failed":
            self._reload(entry.job_id)
        elif entry.tries < self.settings.retries:
            self._change(entry, state="waiting", tries=entry.tries + 1)
        else:
            message = processes.crash_message(entry.name, exit_code)
            self._fail(entry, message, tries=entry.tries + 1, folder=str(job.shown.folders[0]))

    def _complete(self, job: RunningJob) -> None:
        job_id = job.entry.job_id
        for entry in self.journal.complete(job_id, self.store.docs_store):
            self.entries[entry.job_id] = entry
        self._reload(job_id)
        folder, unfinished = job.shown.folders
        if job.entry.role == "decide":
            self.accurate = last_turn(self.store, self.journal.run)
        if self.settings.keep == "failed":
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(unfinished, ignore_errors=True)
        elif unfinished.exists():
            unfinished.rename(folder / "unfinished")

    def _end_the_wait(self) -> None:
        # A job without a core waits for other jobs, and no other can start any more.
        if any(job.shown.cores for job in self.running.values()):
            return
        for job in self.running.values():
            if datetime.now(UTC) - job.shown.started > START_TIME:
                processes.tell_nothing_comes(job.process)

    def _halt(self) -> None:
        for job in self.running.values():
            processes.terminate(job.process)
        deadline = time.monotonic() + GRACE
        first = self.requests.count
        while self.running and self.requests.count <= first and time.monotonic() < deadline:
            self._wait(deadline - time.monotonic())
        for job in list(self.running.values()):
            self._settle(self.running.pop(job.process.sentinel))

    def _fail(self, entry: Entry, message: str, **fields: object) -> None:
        error = {"summary": message, "traceback": None}
        self._change(entry, state="failed", error=error, ended=now(), **fields)

    def _change(self, entry: Entry, **fields: object) -> None:
        self.entries[entry.job_id] = self.journal.change(entry.job_id, **fields)

    def _reload(self, job_id: str) -> None:
        (self.entries[job_id],) = self.journal.entries({"job_id": job_id})

    def _report(self) -> None:
        at_work = [job for job in self.running.values() if job.entry.name != STORE_INPUTS]
        if at_work:  # else it is between two jobs of the same turn
            turns = [job.entry.iteration for job in at_work if job.entry.iteration is not None]
            self.turn = max(turns, default=None)
        snapshot = Snapshot(
            run=self.journal.run,
            counts=count_by_role(self.entries.values()),
            running=tuple(job.shown for job in self.running.values()),
            turn=self.turn,
            accurate=self.accurate,
        )
        self.settings.progress.update(snapshot)

    def _summary(self) -> RunSummary:
        entries = self.entries.values()
        return RunSummary(
            run=self.journal.run,
            counts=dict(Counter(entry.state for entry in entries)),
            failures=tuple(_failure(entry) for entry in entries if entry.state == "failed"),
            interrupted=self.requests.count > 0,
        )


def _failure(entry: Entry) -> Failure:
    folder = Path(entry.folder) if entry.folder else None
    return Failure(entry.job_id, entry.name, entry.error or "", folder)


def _safe_file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)
