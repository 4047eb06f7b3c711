"""One execution of a run: workers, what they finish, and what follows."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING

from ionloop.engines.local import schedule
from ionloop.engines.local.entries import now
from ionloop.engines.local.journal import Journal
from ionloop.engines.local.processes import (
    death_sentence,
    end,
    launch,
    tell_nothing_comes,
    terminate,
)
from ionloop.engines.local.progress import Running, Snapshot, count_by_role
from ionloop.engines.local.worker import Task
from ionloop.jobs.unfinished import UNFINISHED
from ionloop.programs.environment import BASIC_ENVIRONMENT
from ionloop.schemas.job import STORE_INPUTS
from ionloop.schemas.process import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.process import BaseProcess

    from jobflow.core.store import JobStore

    from ionloop.engines.local.entries import Entry
    from ionloop.engines.local.lock import RunLock
    from ionloop.engines.local.processes import StopRequests
    from ionloop.engines.local.runner import LocalRunner


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


class Execution:
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


def _failure(entry: Entry) -> Failure:
    folder = Path(entry.folder) if entry.folder else None
    return Failure(entry.job_id, entry.name, entry.error or "", folder)


def _job_folder(entry: Entry) -> str:
    again = f"-{entry.index}" if entry.index > 1 else ""
    return f"{safe_file_name(entry.name)}-{entry.uuid[:8]}{again}"


def safe_file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)
