"""A place where FireWorks runs: a LaunchPad and a store on a fresh database, workers, a queue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from patience import PATIENCE

MONGO = os.environ.get("IONLOOP_TEST_MONGO_URI")
SLURM = os.environ.get("SLURM_CONF")
PROGRAMS = Path(sys.executable).parent
HERE = Path(__file__).parent
needs_slurm = pytest.mark.skipif(SLURM is None, reason="SLURM_CONF is not set: no Slurm here")
marks = [
    pytest.mark.integration,
    pytest.mark.skipif(MONGO is None, reason="IONLOOP_TEST_MONGO_URI is not set"),
]
PARTITIONS = {"cpu": "main", "gpu": "gpu"}

# Seconds, where FireWorks' own are minutes and hours.
SETTINGS = {
    "PING_TIME_SECS": 1,
    "RUN_EXPIRATION_SECS": 6,
    "RAPIDFIRE_SLEEP_SECS": 1,
    "QUEUE_UPDATE_INTERVAL": 1,
    "WFLOCK_EXPIRATION_SECS": 30,
    "WFLOCK_EXPIRATION_KILL": True,
    "PRINT_FW_JSON": False,
    "SORT_FWS": "FIFO",
}


@dataclass
class Site:
    """Configuration files as a user has them, and the processes that were started with them."""

    folder: Path
    database: str
    modules: tuple[Path, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def launchpad(self) -> Path:
        return self.folder / "my_launchpad.yaml"

    @property
    def store(self) -> str:
        return f"{MONGO}/{self.database}"

    @property
    def environment(self) -> dict[str, str]:
        modules = [str(path) for path in (HERE, *self.modules)]
        modules += filter(None, [os.environ.get("PYTHONPATH")])
        threads = dict.fromkeys(
            (
                "OMP_NUM_THREADS",
                "DP_INTRA_OP_PARALLELISM_THREADS",
                "DP_INTER_OP_PARALLELISM_THREADS",
            ),
            "1",
        )
        return (
            os.environ
            | threads
            | {
                "PYTHONPATH": os.pathsep.join(modules),
                "FW_CONFIG_FILE": str(self.folder / "FW_config.yaml"),
                **self.variables,
            }
        )

    def prepare(self) -> None:
        """Write the configuration and initialise the LaunchPad."""
        pad = {"host": MONGO, "name": f"{self.database}_fw", "uri_mode": True}
        self._write("my_launchpad.yaml", pad | {"strm_lvl": "WARNING"})
        self._write("FW_config.yaml", SETTINGS)
        self._worker("books")
        for worker, partition in PARTITIONS.items():
            self._worker(worker)
            self._write(f"{worker}_queue.yaml", self._adapter(worker, partition))
        with self.pad() as pad:
            pad.reset("", require_password=False)

    def _worker(self, name: str) -> None:
        (self.folder / name).mkdir()
        self._write(f"{name}.yaml", {"name": name, "category": "", "query": "{}"})

    def _adapter(self, worker: str, partition: str) -> dict[str, Any]:
        files = f"-l {self.launchpad} -w {self.folder / worker}.yaml"
        return {
            "_fw_name": "CommonAdapter",
            "_fw_q_type": "SLURM",
            # The template asks for a login shell, which begins with a PATH of its own.
            "pre_rocket": f"export PATH={os.environ['PATH']}",
            "rocket_launch": f"rlaunch {files} singleshot",
            "queue": partition,
            "ntasks": 1,
            "walltime": "00:10:00",
        }

    def _write(self, name: str, content: dict[str, Any]) -> None:
        (self.folder / name).write_text(yaml.safe_dump(content))

    def pad(self) -> Any:
        from ionloop.engines.fireworks.launchpad import opened

        return opened(self.launchpad)

    def engine(self, **changes: Any) -> Any:
        from ionloop.engines.fireworks.engine import FireworksEngine

        adapter = self.folder / "cpu_queue.yaml"
        return FireworksEngine(self.store, self.launchpad, adapter, **changes)

    @contextmanager
    def adapter_changed(self, **changes: Any) -> Iterator[None]:
        """Change the queue adapter for a while."""
        name = "cpu_queue.yaml"
        before = (self.folder / name).read_text()
        self._write(name, yaml.safe_load(before) | changes)
        yield
        (self.folder / name).write_text(before)

    def rlaunch(self, worker: str = "cpu", launches: str = "infinite") -> subprocess.Popen[bytes]:
        """Start a runner on this machine, outside any queue."""
        arguments = ["-w", self.folder / f"{worker}.yaml", "rapidfire", "--nlaunches", launches]
        return self._start("rlaunch", worker, *arguments)

    def qlaunch(self, worker: str) -> subprocess.Popen[bytes]:
        """Start what submits a queue job for every job of a worker."""
        files = ["-w", self.folder / f"{worker}.yaml", "-q", self.folder / f"{worker}_queue.yaml"]
        arguments = [*files, "-r", "rapidfire", "--nlaunches", "infinite", "-m", "4"]
        return self._start("qlaunch", worker, *arguments)

    def crash(self, moment: str) -> int:
        """Run one job with a worker that is killed at a moment; return how it exits."""
        program = [sys.executable, str(HERE / "fireworks_crash.py"), str(self.launchpad), moment]
        done = subprocess.run(
            program, cwd=self.folder / "cpu", env=self.environment, capture_output=True, check=False
        )
        return done.returncode

    def _start(self, program: str, worker: str, *arguments: Any) -> subprocess.Popen[bytes]:
        log = self.folder / f"{program}_{len(self.processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [PROGRAMS / program, "-l", self.launchpad, *arguments],
                cwd=self.folder / worker,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def end(self) -> None:
        """End what was started, and its children."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def logs(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self.folder.glob("*.log"))


@contextmanager
def opened_site(folder: Path, **circumstances: Any) -> Iterator[Site]:
    """Give a place on a fresh database; leave nothing behind."""
    site = Site(folder, f"ionloop_test_{uuid4().hex[:12]}", **circumstances)
    site.prepare()
    try:
        yield site
    finally:
        site.end()
        _drop(site.database, f"{site.database}_fw")


def _drop(*databases: str) -> None:
    from pymongo import MongoClient

    with MongoClient(MONGO) as client:
        for database in databases:
            client.drop_database(database)


def wait_until(holds: Callable[[], bool], site: Site, seconds: float = PATIENCE) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, site.logs()
        time.sleep(0.2)


def states(rows: list[Any]) -> Counter[str]:
    return Counter(row.state for row in rows)
