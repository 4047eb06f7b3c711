"""Both engines behind one face, for tests of faults; a cable to the database that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any, Protocol
from urllib.parse import urlsplit

import fireworks_site
import pytest
import remote_project
from fireworks_site import Site, opened_site
from patience import PATIENCE
from pymongo.errors import AutoReconnect
from remote_project import RemoteProject, cancel_in

from ionloop.engines.base import Engine
from ionloop.schemas.job import JobRow

marks = [*fireworks_site.marks, *remote_project.marks]
both_engines = pytest.mark.parametrize("kind", ["fireworks", "remote"])
TOY = Path(__file__).parents[2] / "toy"
RUN = "run"
PLACES = {
    "default": {"_fworker": "cpu"},
    "select": {"_fworker": "books"},
    "train": {"_fworker": "gpu"},
    "explore": {"_fworker": "gpu"},
}


class Place(Protocol):
    """Where a run runs: an engine, its store, and the processes that serve it."""

    folder: Path
    url: str

    @property
    def engine(self) -> Engine:
        """The engine."""

    def submit(self, flow: Any) -> None:
        """Hand a flow over."""

    def start(self) -> None:
        """Start all runner processes, once more if some run."""

    def kill(self) -> None:
        """Kill all runner processes as a dying machine would."""

    def look_after(self) -> None:
        """Do what a person or a service would do now and then."""


@dataclass
class FireworksPlace:
    """A LaunchPad, a launcher for each queue, and a worker for light jobs."""

    site: Site
    serving: list[tuple[Callable[[str], Any], str, Any]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.site.folder

    @property
    def url(self) -> str:
        return self.site.store

    @property
    def engine(self) -> Engine:
        engine: Engine = self.site.engine(lost_after=8)
        return engine

    def submit(self, flow: Any) -> None:
        self.engine.submit(flow, RUN, PLACES)

    def start(self) -> None:
        for worker in ("cpu", "gpu"):
            self._serve(self.site.qlaunch, worker)
        self._serve(self.site.rlaunch, "books")

    def _serve(self, program: Callable[[str], Any], worker: str) -> None:
        self.serving.append((program, worker, program(worker)))

    def kill(self) -> None:
        self.site.end()
        self.serving.clear()

    def look_after(self) -> None:
        self.engine.recover(RUN)
        for each in [each for each in self.serving if each[2].poll() is not None]:
            self.serving.remove(each)
            self._serve(*each[:2])


@dataclass
class RemotePlace:
    """A project of jobflow-remote with its four runner processes."""

    project: RemoteProject

    @property
    def folder(self) -> Path:
        return self.project.folder

    @property
    def url(self) -> str:
        return self.project.url

    @property
    def engine(self) -> Engine:
        return self.project.engine

    def submit(self, flow: Any) -> None:
        gpu = {"worker": "gpu", "queue": "gpu"}
        self.engine.submit(flow, RUN, remote_project.table(explore=gpu))

    def start(self) -> None:
        self.project.start_all()

    def kill(self) -> None:
        self.project.kill()
        self.project.engine.unlock(RUN, older_than=timedelta(0))

    def look_after(self) -> None:
        self.engine.recover(RUN)
        if any(process.poll() is not None for process in self.project.runners):
            self.kill()
            self.start()


@contextmanager
def opened_place(kind: str, folder: Path) -> Iterator[Place]:
    """Give a place of an engine; leave nothing behind, in the queue neither."""
    if kind == "fireworks":
        variables = {"TOY_LOG": os.environ["TOY_LOG"]}
        with opened_site(folder, modules=(TOY,), variables=variables) as site:
            try:
                yield FireworksPlace(site)  # type: ignore[misc]
            finally:
                cancel_in(folder)
    else:
        with remote_project.remote_project(folder, TOY) as project:
            yield RemotePlace(project)  # type: ignore[misc]


def rows_of(place: Place, name: str) -> list[JobRow]:
    """Return the jobs whose name begins so."""
    return [row for row in place.engine.jobs(RUN) if row.name.startswith(name)]


def wait_for(holds: Callable[[], Any], place: Place, seconds: float = PATIENCE) -> Any:
    """Wait until something holds, looking after the run; return what it returned."""
    limit = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < limit, table_of(place)
        with contextlib.suppress(AutoReconnect):  # who looks after it uses the same cable
            place.look_after()
        time.sleep(0.5)
    return found


def wait_for_end(place: Place, seconds: float = PATIENCE) -> list[JobRow]:
    """Wait until all jobs are completed; return them."""

    def ended() -> list[JobRow]:
        rows = place.engine.jobs(RUN)
        assert not {row.state for row in rows} & {"cancelled", "paused"}, table_of(place)
        return rows if {row.state for row in rows} == {"completed"} else []

    rows: list[JobRow] = wait_for(ended, place, seconds)
    return rows


def table_of(place: Place) -> str:
    rows: Sequence[JobRow] = place.engine.jobs(RUN)
    lines = [f"{row.name}: {row.state}, {row.tries} tries, {row.error or ''}" for row in rows]
    logs = [path.read_text()[-2000:] for path in place.folder.glob("*.log")]
    return "\n".join(lines + logs)


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def without_slurmd() -> Iterator[None]:
    """Stop the daemon of the node for a while; what runs there runs on without it."""
    settings = dict(
        line.split("=", 1)
        for line in Path(os.environ["SLURM_CONF"]).read_text().splitlines()
        if "=" in line
    )
    os.kill(int(Path(settings["SlurmdPidFile"]).read_text()), signal.SIGTERM)
    try:
        yield
    finally:
        program = shutil.which("slurmd") or "/usr/sbin/slurmd"
        slurm(program, "-f", os.environ["SLURM_CONF"], "-N", "localhost")


@dataclass
class Cable:
    """What lies between all processes and the server, on a port of its own."""

    server: str
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    port: int = 0
    socket: Any = None
    ends: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    def cut(self, seconds: float) -> None:
        """Cut all connections and refuse new ones for a while."""
        self._do(self._unplug())
        time.sleep(seconds)
        self._do(self._plug())

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=30)

    async def _plug(self) -> None:
        self.socket = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self.socket.sockets[0].getsockname()[1]

    async def _unplug(self) -> None:
        self.socket.close()
        for end in self.ends:
            end.transport.abort()
        await asyncio.sleep(0.2)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = urlsplit(self.server)
        far_reader, far_writer = await asyncio.open_connection(address.hostname, address.port)
        both = {writer, far_writer}
        self.ends |= both
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self.ends -= both


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    except OSError:
        pass  # cut
    writer.close()


@contextmanager
def cable_to(server: str) -> Iterator[Cable]:
    """Lay a cable to a server and let both engines' places use it."""
    cable = Cable(server)
    thread = Thread(target=cable.loop.run_forever, daemon=True)
    thread.start()
    cable._do(cable._plug())
    try:
        yield cable
    finally:
        cable._do(cable._unplug())
        cable.loop.call_soon_threadsafe(cable.loop.stop)
        thread.join()
        cable.loop.close()


def server_of_both(patch: Any, url: str) -> None:
    """Let the places that are opened from now on use this server."""
    patch.setattr(fireworks_site, "MONGO", url)
    patch.setattr(remote_project, "SERVER", url)
