"""A project of jobflow-remote on a new database, with workers on the real Slurm."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from patience import PATIENCE
from ruamel.yaml import YAML

from ionloop.engines.remote.engine import RemoteEngine
from ionloop.engines.remote.project import EXECUTION, jobstore_block
from ionloop.engines.resources import ResourceTable
from ionloop.schemas.job import JobRow

PROGRAMS = Path(sys.executable).parent
SERVER = os.environ.get("IONLOOP_TEST_MONGO_URI")
SLURM = os.environ.get("SLURM_CONF")
SECRET = "IONLOOP_TEST_REMOTE_SERVER"
ENDED = {"completed", "failed", "paused", "cancelled", "skipped"}

marks = [
    pytest.mark.integration,
    pytest.mark.skipif(SERVER is None, reason="IONLOOP_TEST_MONGO_URI is not set"),
    pytest.mark.skipif(SLURM is None, reason="SLURM_CONF is not set: no Slurm"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Some jobs are not connected:UserWarning"),
]

ONE_THREAD = (
    "OMP_NUM_THREADS",
    "DP_INTRA_OP_PARALLELISM_THREADS",
    "DP_INTER_OP_PARALLELISM_THREADS",
)
FAST = {
    "delay_checkout": 1,
    "delay_check_run_status": 1,
    "delay_advance_status": 1,
    "delay_update_batch": 1,
    "delay_refresh_limited": 5,
    "max_step_attempts": 3,
    "delta_retry": [2, 4, 8],
}


@dataclass
class RemoteProject:
    """A project, its engine, and the runner processes that a test started."""

    folder: Path
    url: str
    name: str = "test"
    runners: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def engine(self) -> RemoteEngine:
        return RemoteEngine(self.url, self.name)

    @property
    def notes(self) -> Path:
        return self.folder / "notes"

    def write(self, **changes: Any) -> None:
        """Write the project file."""
        document = self.document() | changes
        projects = self.folder / "projects"
        projects.mkdir(exist_ok=True)
        YAML(typ="safe", pure=True).dump(document, projects / f"{self.name}.yaml")

    def reset(self) -> None:
        """Set up the queue database, as `jf admin reset` does."""
        with self.engine._controller() as (controller, _):
            assert controller.reset()

    def document(self) -> dict[str, Any]:
        store = jobstore_block(os.path.expandvars(self.url))
        queue = {**store["docs_store"], "collection_name": "queue"}
        return {
            "name": self.name,
            "base_dir": str(self.folder / "base"),
            "runner": FAST,
            "workers": self.workers(),
            "queue": {"store": queue},
            "jobstore": store,
        }

    def workers(self) -> dict[str, Any]:
        local = {"type": "local", "work_dir": str(self.folder / "work"), "execution_cmd": EXECUTION}
        pre_run = "\n".join(f"export {name}=1" for name in ONE_THREAD)
        shell = {**local, "scheduler_type": "shell", "pre_run": pre_run, "max_jobs": 2}
        # Compute nodes do not know where the database is.
        slurm = {**local, "scheduler_type": "slurm", "pre_run": f"{pre_run}\nunset {SECRET}"}
        return {
            "local_shell": shell,
            "cpu": slurm,
            "gpu": slurm,
            "batch": {
                **slurm,
                "resources": {"partition": "main", "ntasks": 1},
                "max_jobs": 1,  # allocations at a time
                "batch": {
                    "jobs_handle_dir": str(self.folder / "batch" / "handle"),
                    "work_dir": str(self.folder / "batch" / "work"),
                    "max_wait": 10,
                    "sleep_time": 1,
                },
            },
        }

    def start(self, *parts: str) -> subprocess.Popen[bytes]:
        """Start one runner process, for the given parts of the work or for all."""
        with (self.folder / "runner.log").open("ab") as log:
            process = subprocess.Popen(
                [PROGRAMS / "jf", "-p", self.name, "runner", "run", *parts],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.runners.append(process)
        return process

    def start_all(self) -> list[subprocess.Popen[bytes]]:
        """Start four processes, as `jf runner start` does."""
        parts = ("--checkout", "--transfer", "--queue", "--complete")
        return [self.start(part) for part in parts]

    def kill(self) -> None:
        """Kill all runner processes as a dying machine would."""
        for process in self.runners:
            process.kill()
            process.wait()
        self.runners.clear()

    def stop(self) -> None:
        for process in self.runners:
            process.send_signal(signal.SIGTERM)
        for process in self.runners:
            process.wait(timeout=PATIENCE)
        self.runners.clear()

    def rows(self, run: str) -> dict[str, JobRow]:
        return {row.name: row for row in self.engine.jobs(run)}

    def wait(self, run: str, seconds: float = PATIENCE, until: Any = None) -> list[JobRow]:
        """Wait until nothing of a run is left to do, or a condition on its rows holds."""
        done = until or (lambda rows: all(row.state in ENDED for row in rows))
        deadline = time.monotonic() + seconds
        while not done(rows := self.engine.jobs(run)):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s: {summary(rows)}\n{self.log()}")
            assert all(p.poll() is None for p in self.runners), self.log()
            time.sleep(0.5)
        return rows

    def shorten(self, role: str) -> None:
        """Let the jobs of a role take no time when they are tried again."""
        with self.engine._controller() as (controller, _):
            changed = {"$set": {"job.function_args.2": 0}}
            controller.jobs.update_many({"job.metadata.role": role}, changed)

    def wait_for_notes(self, number: int) -> None:
        """Wait until so many jobs have begun."""
        deadline = time.monotonic() + PATIENCE
        while not (self.notes.exists() and self.notes.read_text().count("\n") >= number):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.2)

    def log(self) -> str:
        path = self.folder / "runner.log"
        return path.read_text()[-5000:] if path.exists() else ""


def table(**roles: Any) -> dict[str, Any]:
    """Return a placement: light jobs beside the runner, trainings on the GPU, the rest on CPUs."""
    default = {"worker": "cpu", "queue": "main", "processes": 1, "memory": 0.1}
    places = {
        "default": default,
        "select": {"worker": "local_shell"},
        "train": {"worker": "gpu", "queue": "gpu"},
    }
    return ResourceTable.model_validate(places | roles).placement("remote")


def in_state(state: str) -> Callable[[Sequence[JobRow]], bool]:
    """Return a condition: some job is in a state."""
    return lambda rows: any(row.state == state for row in rows)


def summary(rows: Sequence[JobRow]) -> str:
    return "\n".join(f"{row.name}: {row.state} {row.error or ''}" for row in rows)


@contextmanager
def remote_project(folder: Path, *modules: Path) -> Iterator[RemoteProject]:
    """Make a project on a new database; end its runners and drop the database afterwards."""
    import jobflow_remote
    from pymongo import MongoClient

    database = f"ionloop_remote_{uuid4().hex[:12]}"
    project = RemoteProject(folder, f"mongodb://${{{SECRET}}}/{database}")
    path = os.pathsep.join([*map(str, modules), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JFREMOTE_PROJECTS_FOLDER", str(folder / "projects"))
        patch.setattr(jobflow_remote.SETTINGS, "projects_folder", str(folder / "projects"))
        patch.setenv(SECRET, str(SERVER).removeprefix("mongodb://"))
        patch.setenv("PYTHONPATH", path.rstrip(os.pathsep))
        project.write()
        project.reset()
        try:
            yield project
        finally:
            project.kill()
            cancel_in(folder)
            with MongoClient(SERVER) as client:
                for name in (database, f"{database}_other"):
                    client.drop_database(name)


def queued_in(folder: Path) -> list[str]:
    """Return the ids of the Slurm jobs that work under a folder."""
    lines = squeue("%i %Z")
    return [line.split()[0] for line in lines if line.split()[-1].startswith(str(folder))]


def squeue(columns: str) -> list[str]:
    command = ["squeue", "--noheader", "-o", columns]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return found.stdout.splitlines()


def cancel_in(folder: Path) -> None:
    """Cancel what is left in the queue of a test."""
    if ids := queued_in(folder):
        subprocess.run(["scancel", *ids], check=True)
    shutil.rmtree(folder / "work", ignore_errors=True)
