"""What the images start: docker/worker.py, run here as in a container."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest
from image_files import DOCKER

SERVER = os.environ.get("IONLOOP_TEST_MONGO_URI")
NOWHERE = {"MONGO_HOST": "127.0.0.1", "MONGO_PORT": "1", "MONGO_PASSWORD": "open: 'sesame'"}
needs_server = pytest.mark.skipif(SERVER is None, reason="IONLOOP_TEST_MONGO_URI is not set")


@pytest.fixture(scope="module")
def worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("worker", DOCKER / "worker.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(home: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {key: os.environ[key] for key in os.environ if not key.startswith(("FW_", "MONGO_"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, DOCKER / "worker.py", *words],
        cwd=home,
        env={**kept, "HOME": str(home), "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_a_database_nothing_is_written(tmp_path: Path) -> None:
    assert start(tmp_path, "echo", "as asked").stdout == "as asked\n"
    assert not list(tmp_path.iterdir())


def test_the_password_is_for_the_worker_alone(tmp_path: Path) -> None:
    assert start(tmp_path, "true", **NOWHERE).returncode == 0
    file = tmp_path / ".fireworks" / "my_launchpad.yaml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["password"] == "open: 'sesame'"


def test_fireworks_reads_the_launchpad(worker: ModuleType, tmp_path: Path) -> None:
    launchpad = pytest.importorskip("fireworks").LaunchPad
    worker.configure(tmp_path, NOWHERE)
    read = launchpad.from_file(str(tmp_path / ".fireworks" / "my_launchpad.yaml"))
    read.connection.close()
    assert (read.host, read.port, read.name) == ("127.0.0.1", 1, "ionloop")
    assert read.password == "open: 'sesame'"


def test_a_launchpad_of_the_user_stays(tmp_path: Path) -> None:
    (tmp_path / ".fireworks").mkdir()
    file = tmp_path / ".fireworks" / "my_launchpad.yaml"
    file.write_text("host: mine\n")
    start(tmp_path, "true", **NOWHERE)
    assert file.read_text() == "host: mine\n"


def test_roles_are_commands(worker: ModuleType) -> None:
    assert worker.command(["fireworks", "--timeout", "5"])[:2] == ["rlaunch", "rapidfire"]
    assert worker.command(["fireworks", "--timeout", "5"])[-2:] == ["--timeout", "5"]
    assert worker.command(["remote"]) == ["jf", "runner", "run"]
    assert worker.command(["ionloop", "status"]) == ["ionloop", "status"]


def test_without_arguments_it_says_what_there_is(tmp_path: Path) -> None:
    said = start(tmp_path)
    assert said.returncode == 1
    assert "ionloop-worker fireworks" in said.stderr


def test_ping_fails_where_no_server_is(worker: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from pymongo.errors import ServerSelectionTimeoutError

    monkeypatch.setattr(worker, "PING_TIMEOUT", 200)
    worker.ping({})
    with pytest.raises(ServerSelectionTimeoutError):
        worker.ping(NOWHERE)


@pytest.mark.integration
@needs_server
def test_the_worker_takes_a_job(tmp_path: Path) -> None:
    fireworks = pytest.importorskip("fireworks")
    from pymongo import MongoClient
    from pymongo.uri_parser import parse_uri

    assert SERVER is not None
    ((host, port),) = parse_uri(SERVER)["nodelist"]
    address = {
        "MONGO_HOST": host,
        "MONGO_PORT": str(port),
        "MONGO_DATABASE": f"ionloop_test_{uuid4().hex[:12]}",
    }
    assert start(tmp_path, "ping", **address).returncode == 0
    try:
        pad = fireworks.LaunchPad(host=SERVER, name=address["MONGO_DATABASE"], uri_mode=True)
        pad.reset("", require_password=False)
        task = fireworks.ScriptTask.from_str(f"echo done > {tmp_path / 'answer'}")
        pad.add_wf(fireworks.Firework(task))
        pad.connection.close()
        start(tmp_path, "fireworks", "--nlaunches", "1", **address)
    finally:
        with MongoClient(SERVER) as client:
            client.drop_database(address["MONGO_DATABASE"])
    assert (tmp_path / "answer").read_text() == "done\n"
