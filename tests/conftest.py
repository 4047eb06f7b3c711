"""Fixtures that several test folders share."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from jobflow import JobStore

from ionloop.formats.reading import load_structures
from ionloop.geometry.perturb import perturb
from ionloop.programs.environment import ENVIRONMENT
from ionloop.schemas.frames import Frames
from ionloop.stores.connect import open_store

TOY = Path(__file__).parent / "toy"
STAND_IN = Path(__file__).parent / "vasp"
PROGRAMS = Path(__file__).parent / "programs", Path(sys.executable).parent


def pytest_configure(config: pytest.Config) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from budget import Budget  # type: ignore[import-not-found]

    config.pluginmanager.register(Budget(Path(__file__).with_name("budget.toml")))


@pytest.fixture(scope="session", autouse=True)
def search_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put the programs of this environment on PATH, before them those that start at once."""
    folder = tmp_path_factory.mktemp("programs")
    with pytest.MonkeyPatch.context() as patch:
        path = os.pathsep.join([*map(str, PROGRAMS), os.environ["PATH"]])
        patch.setenv("PATH", path)
        patch.setenv("LMP_ENVIRONMENT", str(folder / "lmp.env"))
        patch.setenv("DP_HOME", str(PROGRAMS[1]))
        patch.setenv("DP_SERVER", str(folder / "dp.socket"))
        with dp_server(folder / "dp.socket"):
            yield


@contextmanager
def dp_server(path: Path) -> Iterator[None]:
    """Start what `tests/programs/dp` asks for a process; it imports nothing before that."""
    program = [sys.executable, str(PROGRAMS[0] / "dp_server.py"), str(path)]
    environment = os.environ | ENVIRONMENT
    with subprocess.Popen(program, stdin=subprocess.PIPE, env=environment) as server:
        while not path.exists():
            assert server.poll() is None, "the server of DeePMD-kit did not start"
            time.sleep(0.01)
        yield  # it ends when its standard input is closed


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make the toy labeller importable, here and in worker processes; return its log."""
    log = tmp_path / "toy.log"
    log.touch()
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.setenv("PYTHONPATH", str(TOY), prepend=os.pathsep)
    monkeypatch.setenv("TOY_LOG", str(log))
    return log


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], AbstractContextManager[None]]:
    """Have a process killed, as it were, when it comes to remove a file of some name."""
    unlink = Path.unlink

    @contextmanager
    def killed(name: str) -> Iterator[None]:
        def die(path: Path, missing_ok: bool = False) -> None:
            if path.name == name:
                raise KeyboardInterrupt
            unlink(path, missing_ok)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "unlink", die)
            yield

    return killed


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    """Open an embedded store."""
    opened = open_store(tmp_path / "ionloop.db")
    yield opened
    opened.close()


@pytest.fixture
def connections() -> Callable[[], int]:
    """Return what counts the connections of this process to the database server."""
    import psutil

    def count() -> int:
        port = urlsplit(os.environ["IONLOOP_TEST_MONGO_URI"]).port
        mine = psutil.Process().net_connections()
        return sum(bool(each.raddr) and each.raddr.port == port for each in mine)

    return count


@pytest.fixture
def gold_copper() -> Frames:
    """Twelve perturbed frames of the 8-atom toy cell."""
    (start,) = load_structures([TOY / "AuCu.vasp"])
    return perturb(start, 12, displacement=0.15, strain=0.03, seed=5)


@pytest.fixture(scope="module")
def vasp_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandInVasp]:
    """Provide the stand-in for VASP, with made-up POTCARs, here and in worker processes."""
    from pymatgen.core import SETTINGS

    folder = tmp_path_factory.mktemp("vasp")
    stand_in = StandInVasp(folder / "misdeeds.json", folder / "vasp.log")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STAND_IN))
        write_potcars = importlib.import_module("fake_potcars").write_potcars
        potcars = str(write_potcars(folder / "potcars", {"Au": 11, "Cu": 11}))
        patch.setenv("PMG_VASP_PSP_DIR", potcars)
        patch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", potcars)
        patch.setenv("STAND_IN_VASP", str(stand_in.misdeeds))
        patch.setenv("STAND_IN_LOG", str(stand_in.log))
        stand_in.reset()
        yield stand_in


@pytest.fixture
def vasp(vasp_of_module: StandInVasp) -> StandInVasp:
    """Provide the stand-in for VASP, asked for nothing wrong, with an empty log."""
    vasp_of_module.reset()
    return vasp_of_module


@dataclass(frozen=True)
class StandInVasp:
    """The stand-in for VASP: what it is asked to do wrong, and a log of its starts."""

    misdeeds: Path
    log: Path

    @property
    def command(self) -> str:
        """Command that starts it."""
        return f"{sys.executable} {STAND_IN / 'vasp_std.py'}"

    @property
    def starts(self) -> list[str]:
        """Working folder of each start."""
        return [line.split()[0] for line in self.log.read_text().splitlines()]

    @property
    def processes(self) -> list[int]:
        """Process id of each start."""
        return [int(line.split()[1]) for line in self.log.read_text().splitlines()]

    def ask(self, misdeeds: Mapping[str, str]) -> None:
        """Ask for misdeeds, by the name of the working folder or ``*``."""
        self.misdeeds.write_text(json.dumps(dict(misdeeds)))

    def reset(self) -> None:
        """Ask for nothing wrong, and empty the log."""
        self.ask({})
        self.log.write_text("")
