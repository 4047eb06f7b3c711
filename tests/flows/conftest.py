"""The command as users run it, on the toy material, for the tests of this folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jobflow import JobStore
from ruamel.yaml import YAML

from ionloop.schemas.iteration import IterationDoc
from ionloop.schemas.label import LabelDoc
from ionloop.schemas.run import RunState, SummaryDoc
from ionloop.stores.connect import collection, open_store

TOY = Path(__file__).parents[1] / "toy"
FAULTS = Path(__file__).parent / "faults"
PRELOAD = TOY.parent / "programs" / "preload"
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Place:
    """A folder with a run file, a store, the labeller's log, and what the command printed."""

    folder: Path
    store: str

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def write(self, **changes: Any) -> None:
        """Write the toy's run file, with sections changed key by key."""
        yaml = YAML(typ="safe", pure=True)
        settings = yaml.load(TOY / "run.yaml")
        for key, value in {"structures": [str(TOY / "AuCu.vasp")], **changes}.items():
            old = settings.get(key)
            settings[key] = {**old, **value} if isinstance(old, dict) else value
        yaml.dump(settings, self.folder / "run.yaml")

    def replace(self, without: str, **sections: Any) -> None:
        """Give the run file whole sections in place of its own, and take one away."""
        yaml = YAML(typ="safe", pure=True)
        settings = yaml.load(self.folder / "run.yaml")
        del settings[without]
        yaml.dump(settings | sections, self.folder / "run.yaml")

    def start(
        self, *arguments: str, fault: str = "", path: str | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the command; programs that misbehave if asked to come first on PATH."""
        with (self.folder / "output").open("wb") as output:
            return subprocess.Popen(
                [PROGRAMS / "ionloop", *arguments, "--store", self.store],
                cwd=self.folder,
                env=self.environment(fault) | ({"PATH": path} if path else {}),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def environment(self, fault: str) -> dict[str, str]:
        modules = [str(PRELOAD), str(FAULTS), str(TOY), os.environ.get("PYTHONPATH", "")]
        return os.environ | {
            "PATH": f"{FAULTS}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, modules)),
            "REAL_PROGRAMS": str(PRELOAD.parent),
            "TOY_LOG": str(self.folder / "log"),
            "COLUMNS": "500",
            "FAULT": fault,
        }

    def ends(self, process: subprocess.Popen[bytes], code: int) -> str:
        """Wait for the command; return what it printed, which is never a bare traceback."""
        assert process.wait(timeout=600) == code, self.output
        assert "Traceback" not in self.output
        return self.output

    def run(self, *arguments: str, code: int = 0, **circumstances: Any) -> str:
        return self.ends(self.start(*arguments, **circumstances), code)

    def await_job(self, process: subprocess.Popen[bytes], name: str) -> None:
        """Wait until a job runs whose name begins so."""
        criteria = {"state": "running", "name": {"$regex": f"^{name}"}}
        while not Path(self.store).exists():
            time.sleep(0.05)
        with self.opened() as store:
            while not collection(store, "jobs").count(criteria):
                assert process.poll() is None, f"ended before {name}: {self.output}"
                time.sleep(0.05)

    def interrupt(self, process: subprocess.Popen[bytes]) -> None:
        """Press Ctrl-C."""
        process.send_signal(signal.SIGINT)
        assert "ionloop resume" in self.ends(process, 130)

    def copy(self, folder: Path) -> Place:
        """Copy everything but scratch."""
        shutil.copytree(
            self.folder, folder, ignore=shutil.ignore_patterns("scratch"), dirs_exist_ok=True
        )
        return Place(folder, str(folder / Path(self.store).name))

    @contextmanager
    def opened(self) -> Iterator[JobStore]:
        store = open_store(self.store)
        try:
            yield store
        finally:
            store.close()

    def documents(self, kind: type[Any]) -> list[Any]:
        """Return the stored documents of a kind, oldest first."""
        with self.opened() as store:
            found = store.query({"output.@class": kind.__name__}, load=True)
            ordered = sorted(found, key=lambda document: document["completed_at"])
            outputs = [document["output"] for document in ordered]
            each = [
                x for output in outputs for x in (output if isinstance(output, list) else [output])
            ]
            return [kind.from_stored(one) for one in each]

    def labels(self) -> list[LabelDoc]:
        with self.opened() as store:
            return [LabelDoc.from_stored(d) for d in collection(store, "labels").query()]

    def calculated(self) -> Counter[str]:
        """Count finished calculations by frame, at the labeller."""
        log = self.folder / "log"
        return Counter(line.split()[0] for line in log.read_text().splitlines())

    def turns(self) -> list[IterationDoc]:
        return self.documents(IterationDoc)

    def summary(self) -> SummaryDoc:
        (summary,) = self.documents(SummaryDoc)
        return summary

    def state(self) -> RunState:
        with self.opened() as store:
            (run,) = collection(store, "runs").query({"name": {"$exists": True}})
        return RunState(run["state"])


@pytest.fixture(scope="session")
def new_place(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Place]:
    """Make a folder, with an embedded store unless another is named."""

    def make(store: str | None = None) -> Place:
        folder = tmp_path_factory.mktemp("place")
        return Place(folder, store or str(folder / "a.db"))

    return make


def run_toy(folder: Path) -> Place:
    """Run the toy run file to its end, undisturbed; nobody changes the result.

    One run serves all test processes to which IONLOOP_TEST_SHARED names the same folder.
    """
    folder = Path(os.environ.get("IONLOOP_TEST_SHARED", folder)) / "toy"
    folder.mkdir(exist_ok=True)
    place = Place(folder, str(folder / "a.db"))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "finished").exists():
            place.write()
            place.run("run", "run.yaml")
            (folder / "finished").touch()
    return place


@pytest.fixture(scope="session")
def finished_toy(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Give the place of a toy run that has ended undisturbed; nobody changes it."""
    return run_toy(tmp_path_factory.mktemp("finished"))
