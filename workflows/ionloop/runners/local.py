"""Run jobflow flows on this machine: several jobs side by side, resumable after any interruption.

The embedded default, not a scheduler. Each job runs in a process of its own; all that happened is
in the journal (:mod:`ionloop.runners.journal`), so a run that was killed, however and whenever,
continues with :meth:`LocalRunner.resume` and runs no finished job again.

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
import re
import shutil
import socket
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ionloop.codes.program import BASIC_ENVIRONMENT
from ionloop.makers.base import UNFINISHED
from ionloop.runners import schedule
from ionloop.runners.journal import Journal, JournalError, now
from ionloop.runners.lock import run_lock, wait_for_workers
from ionloop.runners.processes import (
    death_sentence,
    end,
    end_leftover,
    launch,
    stop_requests,
    tell_nothing_comes,
    terminate,
)
from ionloop.runners.progress import Running, Silent, Snapshot, count_by_role
from ionloop.runners.worker import Task
from ionloop.schemas.job import STORE_INPUTS
from ionloop.schemas.process import HEARTBEAT
from ionloop.stores.connect import collection, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.process import BaseProcess

    from jobflow.core.flow import Flow
    from jobflow.core.job import Job
    from jobflow.core.store import JobStore

    from ionloop.runners.journal import Entry
    from ionloop.runners.lock import RunLock
    from ionloop.runners.processes import StopRequests
    from ionloop.runners.progress import Observer

GRACE = 5.0
YOUTH = timedelta(seconds=10)  # a worker that is not up yet would die of the signal


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
        """The summary in words."""
        jobs = ", ".join(f"{count} {state}" for state, count in sorted(self.counts.items()))
        lines = [f"run {self.run}: {jobs}"]
        lines += [f"{each.summary} (see {each.folder})" for each in self.failures]
        if self.interrupted:
            lines.append(f"stopped on request; continue with: ionloop resume {self.run}")
        return "\n".join(lines)


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
                return _Execution(self, store, journal, lock, requests).to_end()

    def folder(self, run: str) -> Path:
        """Scratch folder of a run."""
        return self.scratch.absolute() / _file_name(run)

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


def last_turn(store: JobStore, run: str) -> tuple[int, float] | None:
    """Return number and accurate fraction of the last finished turn of a run; None before it."""
    criteria = {"metadata.run": run, "output.@class": "IterationDoc"}
    found = store.docs_store.query(criteria, properties=["output.progress"])
    turns = [document["output"]["progress"] for document in found]
    last = max(turns, key=lambda progress: progress["index"], default=None)
    return (last["index"], last["accurate_fractions"][-1]) if last else None


@dataclass
class _Worker:
    entry: Entry
    process: BaseProcess
    cores: int
    started: datetime
    folder: Path


class _Execution:
    """One runner at work on one run: the only one who changes the journal of idle jobs."""

    def __init__(
        self,
        runner: LocalRunner,
        store: JobStore,
        journal: Journal,
        lock: RunLock,
        requests: StopRequests,
    ) -> None:
        self.runner = runner
        self.store = store
        self.journal = journal
        self.lock = lock
        self.requests = requests
        self.entries = {entry.job_id: entry for entry in journal.entries()}
        self.workers: dict[int, _Worker] = {}
        self.accurate = last_turn(store, journal.run)
        self.turn: int | None = None

    def to_end(self) -> RunSummary:
        """Run until nothing is left to do, or a request to stop."""
        try:
            while self._advance() and not self.requests.count:
                self._wait(HEARTBEAT)
                self.lock.beat()
            self._halt()
        finally:
            for worker in self.workers.values():
                end(worker.process)
        self._report()
        return self._summary()

    def _advance(self) -> bool:
        self._skip()
        if not self.requests.count:
            self._start()
        if not self.workers:
            self._fail_stuck()
        self._end_the_wait()
        self._report()
        return bool(self.workers)

    def _skip(self) -> None:
        while found := schedule.skips(*self._survey()):
            for skip in found:
                self._change(
                    skip.entry, state="skipped", stop=skip.stop, error={"summary": skip.reason}
                )

    def _start(self) -> None:
        able = schedule.ready(*self._survey())
        free = self.runner.cores - sum(worker.cores for worker in self.workers.values())
        for entry in schedule.fitting(able, free, self.runner.cores):
            self._launch(entry)

    def _launch(self, entry: Entry) -> None:
        run_folder = self.runner.folder(self.journal.run)
        folder = run_folder / _job_folder(entry)
        task = Task(
            store_url=_absolute(self.runner.store_url),
            run=self.journal.run,
            job_id=entry.job_id,
            folder=folder,
            lock=run_folder / "workers.lock",
            env={
                **os.environ,
                **BASIC_ENVIRONMENT,
                UNFINISHED: str(run_folder / "unfinished"),
                **self.runner.env,
            },
        )
        process = launch(task)
        cores = min(entry.cores, self.runner.cores)
        worker = _Worker(entry, process, cores, datetime.now(UTC), folder)
        self.workers[process.sentinel] = worker
        self.entries[entry.job_id] = replace(entry, state="running")

    def _wait(self, seconds: float) -> None:
        ready = connection.wait([self.requests.reader, *self.workers], timeout=seconds)
        for sentinel in ready:
            if sentinel in self.workers:
                self._settle(self.workers.pop(sentinel))
            else:
                self.requests.clear()

    def _settle(self, worker: _Worker) -> None:
        exit_code = end(worker.process)
        document = self.journal.read(worker.entry.job_id)
        if document["state"] == "finished":
            self._complete(worker)
        elif self.requests.count:
            self._change(worker.entry, state="waiting", error=None, tries=worker.entry.tries)
        elif document["state"] == "failed":
            self._reload(worker.entry.job_id)
        else:
            self._bury(worker, exit_code)

    def _complete(self, worker: _Worker) -> None:
        job_id = worker.entry.job_id
        for entry in self.journal.complete(job_id, self.store.docs_store):
            self.entries[entry.job_id] = entry
        self._reload(job_id)
        unfinished = self._unfinished(worker.entry)
        if worker.entry.role == "decide":
            self.accurate = last_turn(self.store, self.journal.run)
        if self.runner.keep == "failed":
            shutil.rmtree(worker.folder, ignore_errors=True)
            shutil.rmtree(unfinished, ignore_errors=True)
        elif unfinished.exists():
            unfinished.rename(worker.folder / "unfinished")

    def _bury(self, worker: _Worker, exit_code: int) -> None:
        tries = worker.entry.tries + 1
        if tries <= self.runner.retries:
            self._change(worker.entry, state="waiting", tries=tries)
        else:
            sentence = death_sentence(worker.entry.name, exit_code)
            self._fail(worker.entry, sentence, tries=tries, folder=str(worker.folder))

    def _fail_stuck(self) -> None:
        # Only jobs that wait for each other are still waiting when nothing can start.
        if self.requests.count:
            return
        for entry in [each for each in self.entries.values() if each.state == "waiting"]:
            self._fail(entry, f"{entry.name} failed: it waits for a job that waits for it")

    def _end_the_wait(self) -> None:
        # A job without a core waits for what others do, and no other can start any more.
        if any(worker.cores for worker in self.workers.values()):
            return
        for worker in self.workers.values():
            if datetime.now(UTC) - worker.started > YOUTH:
                tell_nothing_comes(worker.process)

    def _halt(self) -> None:
        for worker in self.workers.values():
            terminate(worker.process)
        deadline = time.monotonic() + GRACE
        first = self.requests.count
        while self.workers and self.requests.count <= first and time.monotonic() < deadline:
            self._wait(deadline - time.monotonic())
        for worker in list(self.workers.values()):
            self._settle(self.workers.pop(worker.process.sentinel))

    def _fail(self, entry: Entry, sentence: str, **fields: object) -> None:
        error = {"summary": sentence, "traceback": None}
        self._change(entry, state="failed", error=error, ended=now(), **fields)

    def _change(self, entry: Entry, **fields: object) -> None:
        self.entries[entry.job_id] = self.journal.change(entry.job_id, **fields)

    def _reload(self, job_id: str) -> None:
        (self.entries[job_id],) = self.journal.entries({"job_id": job_id})

    def _survey(self) -> tuple[list[Entry], schedule.Survey]:
        entries = list(self.entries.values())
        return entries, schedule.Survey.of(entries)

    def _report(self) -> None:
        at_work = [w.entry for w in self.workers.values() if w.entry.name != STORE_INPUTS]
        if at_work:  # else it is between two jobs of the same turn
            turns = [entry.iteration for entry in at_work if entry.iteration is not None]
            self.turn = max(turns, default=None)
        snapshot = Snapshot(
            run=self.journal.run,
            counts=count_by_role(self.entries.values()),
            running=tuple(map(self._running, self.workers.values())),
            turn=self.turn,
            accurate=self.accurate,
        )
        self.runner.progress.update(snapshot)

    def _running(self, worker: _Worker) -> Running:
        entry = worker.entry
        folders = (worker.folder, self._unfinished(entry))
        return Running(entry.name, entry.role, worker.cores, worker.started, folders)

    def _unfinished(self, entry: Entry) -> Path:
        root = self.runner.folder(self.journal.run) / "unfinished"
        return root / f"{entry.uuid}-{entry.index}"

    def _summary(self) -> RunSummary:
        entries = self.entries.values()
        return RunSummary(
            run=self.journal.run,
            counts=dict(Counter(entry.state for entry in entries)),
            failures=tuple(_failure(entry) for entry in entries if entry.state == "failed"),
            interrupted=self.requests.count > 0,
        )


def _absolute(store_url: str) -> str:
    # Workers live in other folders.
    return store_url if "://" in store_url else str(Path(store_url).absolute())


def _journal(store: JobStore, run: str) -> Journal:
    return Journal(collection(store, "jobs"), run)


def _failure(entry: Entry) -> Failure:
    folder = Path(entry.folder) if entry.folder else None
    return Failure(entry.job_id, entry.name, entry.error or "", folder)


def _job_folder(entry: Entry) -> str:
    again = f"-{entry.index}" if entry.index > 1 else ""
    return f"{_file_name(entry.name)}-{entry.uuid[:8]}{again}"


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)
