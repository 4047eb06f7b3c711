"""Time trivial labels through every runner, and the same calculations as plain jobflow jobs.

Prints time and database operations per job, and ionloop's share: how much longer its labels take
than plain jobs on the same engine, which have no ledger, no frames and no acceptance. The time is
that between the start of the first job and the end of the last. The processor time depends less on
the load of the machine; it is the sum over all processes of the engine, including their start-up.
Run as ``OMP_NUM_THREADS=1 python benchmarks/engines.py --labels 1000``, with a MongoDB server for
tests in ``IONLOOP_TEST_MONGO_URI``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from jobflow import Flow

from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.engines.base import Engine
from ionloop.engines.local.engine import LocalEngine
from ionloop.engines.local.runner import LocalRunner
from ionloop.formats.reading import load_structures
from ionloop.geometry.perturb import perturb
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.schemas.frames import Frames
from ionloop.schemas.job import JobRow

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"
COUNT = "IONLOOP_BENCHMARK_OPERATIONS"
RUN = "benchmark"
PROCESSES = 3
ENDED = {"completed", "failed", "skipped", "cancelled"}

COUNTER = f"""
import atexit, contextlib, os, time
from pymongo import monitoring

def append(name, text):
    descriptor = os.open(os.environ[{COUNT!r}] + name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, text)
    os.close(descriptor)

def note_time():
    with contextlib.suppress(FileNotFoundError):  # it outlived the run
        append(".time", b"%f " % time.process_time())

def leave(status, leave=os._exit):
    note_time()
    leave(status)

class Counter(monitoring.CommandListener):
    def started(self, event):
        append("", b".")

    def succeeded(self, event): pass
    def failed(self, event): pass

monitoring.register(Counter())
atexit.register(note_time)
os._exit = leave
"""
"""Code that every process of an engine runs at its start."""


class Seen(NamedTuple):
    """Cost of one run."""

    jobs: int
    seconds: float
    """Wall time per job."""
    busy: float
    """Processor time per job."""
    operations: float
    """Database operations per job."""


class Work(NamedTuple):
    """The same work in two forms, and the file in which its database operations are counted."""

    frames: Frames
    counted: Path

    def ours(self) -> Flow:
        """Return the labels of the frames."""
        settings = ForceFieldSettings(model="toy_labeller:ToyLabeller")
        maker = ForceFieldLabelMaker(batch_size=1, settings=settings)
        return Flow([maker.make([self.frames])])

    def bare(self) -> Flow:
        """Return the calculations without ionloop."""
        from bare_jobs import spread

        structures = [
            {
                "symbols": list(self.frames.symbols),
                "positions": self.frames.positions[k].tolist(),
                "cell": self.frames.cells[k].tolist(),
            }
            for k in range(len(self.frames))
        ]
        flow = Flow([spread(structures)])
        flow.update_metadata({"run": RUN}, dynamic=True)
        return flow


def main() -> None:
    """Run everything and print it."""
    options = _options()
    if "IONLOOP_TEST_MONGO_URI" not in os.environ:
        print("not run: set IONLOOP_TEST_MONGO_URI to the URL of a MongoDB server for tests")
        return
    (start,) = load_structures([TESTS / "toy" / "AuCu.vasp"])
    frames = perturb(start, options.labels, displacement=0.1, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(frames, Path(folder) / "operations")
        _count_in_all_processes(Path(folder), work.counted)
        for name in options.engines:
            _compare(name, work, Path(folder))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--engines", nargs="+", choices=RUNS, default=list(RUNS))
    return parser.parse_args()


def _count_in_all_processes(folder: Path, counted: Path) -> None:
    (folder / "sitecustomize.py").write_text(COUNTER)
    modules = [folder, HERE, TESTS / "toy", os.environ.get("PYTHONPATH", "")]
    os.environ |= {"PYTHONPATH": os.pathsep.join(map(str, modules)), COUNT: str(counted)}
    sys.path[:0] = [str(TESTS / "toy"), str(TESTS / "engines" / "queue")]


def _compare(name: str, work: Work, folder: Path) -> None:
    seen = {}
    for kind in ("bare", "ours"):
        place = folder / f"{name}-{kind}"
        place.mkdir()
        seen[kind] = found = _seen(RUNS[name](place, work, kind == "bare"), work.counted)
        print(
            f"{name:10}{kind:5}{found.jobs:6} jobs, each {1000 * found.seconds:7.0f} ms, "
            f"{1000 * found.busy:6.0f} ms of processor time, {found.operations:5.1f} operations",
            flush=True,
        )
    wall, busy = (seen["ours"][k] / seen["bare"][k] - 1 for k in (1, 2))
    print(f"{name:10}ionloop takes {wall:+.1%} time, processor time {busy:+.1%}", flush=True)


def _seen(rows: Sequence[JobRow], counted: Path) -> Seen:
    """Return the cost of a run from its jobs and the files of its processes, which are removed."""
    if unwanted := {row.name for row in rows if row.state != "completed"}:
        sys.exit(f"these jobs did not complete: {', '.join(sorted(unwanted))}")
    starts = [row.started for row in rows if row.started]
    ends = [row.ended for row in rows if row.ended]
    seconds = (max(ends) - min(starts)).total_seconds()
    times = counted.with_name(f"{counted.name}.time")
    busy = sum(map(float, times.read_text().split()))
    totals = (seconds, busy, counted.stat().st_size)
    counted.unlink()
    times.unlink()
    return Seen(len(rows), *(total / len(rows) for total in totals))


def _wait(engine: Engine) -> list[JobRow]:
    while not (rows := engine.jobs(RUN)) or any(row.state not in ENDED for row in rows):
        time.sleep(3)
    return rows


def local(folder: Path, work: Work, bare: bool) -> list[JobRow]:
    """Run on ionloop's own local runner."""
    with _database() as url:
        # In a separate process, in which operations are counted too.
        runner = get_context("spawn").Process(target=_run_here, args=(url, folder, work, bare))
        runner.start()
        runner.join()
        return LocalEngine(url, folder).jobs(RUN)


def _run_here(url: str, folder: Path, work: Work, bare: bool) -> None:
    flow = work.bare() if bare else work.ours()
    LocalRunner(store_url=url, scratch=folder, cores=PROCESSES).run(flow, RUN)


@contextmanager
def _database() -> Iterator[str]:
    from pymongo import MongoClient

    server, name = os.environ["IONLOOP_TEST_MONGO_URI"], f"ionloop_benchmark_{uuid4().hex[:8]}"
    try:
        yield f"{server}/{name}"
    finally:
        with MongoClient(server) as client:
            client.drop_database(name)


def fireworks(folder: Path, work: Work, bare: bool) -> list[JobRow]:
    """Run with a few ``rlaunch rapidfire`` at the same time."""
    from fireworks_site import opened_site
    from jobflow import JobStore
    from jobflow.managers.fireworks import flow_to_workflow
    from maggma.stores import MongoStore

    with opened_site(folder) as site:
        if bare:
            docs = MongoStore(site.database, "outputs", uri=os.environ["IONLOOP_TEST_MONGO_URI"])
            workflow = flow_to_workflow(work.bare(), JobStore(docs), metadata={"run": RUN})
            with site.pad() as pad:
                pad.add_wf(workflow)
        else:
            site.engine().submit(work.ours(), RUN, {"default": {"_fworker": "cpu"}})
        for _ in range(PROCESSES):
            site.rlaunch("cpu")
        rows = _wait(site.engine())
        for process in site.processes:
            process.send_signal(signal.SIGINT)
            process.wait()
        return rows


def remote(folder: Path, work: Work, bare: bool) -> list[JobRow]:
    """Run with the four processes of jobflow-remote's runner and a shell as worker."""
    from remote_project import remote_project

    with remote_project(folder) as project:
        workers = project.workers()
        shell = workers["local_shell"] | {"max_jobs": 2 * PROCESSES}  # a step takes a second or so
        if bare:
            del shell["execution_cmd"]
        project.write(workers={"shell": shell})
        if bare:
            with project.engine._controller() as (controller, _):
                controller.add_flow(work.bare(), worker="shell")
        else:
            places = {role: {"worker": "shell"} for role in ("default", "select")}
            project.engine.submit(work.ours(), RUN, places)
        project.start_all()
        rows = _wait(project.engine)
        project.stop()
        return rows


RUNS: dict[str, Callable[[Path, Work, bool], list[JobRow]]] = {
    "local": local,
    "fireworks": fireworks,
    "remote": remote,
}


if __name__ == "__main__":
    main()
