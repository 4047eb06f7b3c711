from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import psutil
import pytest

from ionloop.programs import concurrent as module
from ionloop.programs.concurrent import DEVICES, PIPES, multi_process_service, run_concurrently

SERVICE = """#!{python}
import os, pathlib, sys, time
note = pathlib.Path({note!r})
pipes = pathlib.Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
if sys.argv[1:] == ["-f"]:
    note.write_text(f"{{os.getpid()}} {{os.environ.get('CUDA_VISIBLE_DEVICES')}}")
    {start}
    while not (pipes / "quit").exists():
        time.sleep(0.02)
else:
    assert sys.stdin.read().startswith("quit")
    (pipes / "quit").touch()
"""


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(PIPES, raising=False)
    monkeypatch.delenv(DEVICES, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path / "note"


def install(note: Path, start: str = '(pipes / "control").touch()') -> None:
    program = note.parent / "nvidia-cuda-mps-control"
    program.write_text(SERVICE.format(python=sys.executable, note=str(note), start=start))
    program.chmod(0o755)


def test_all_run_at_the_same_time(tmp_path: Path) -> None:
    meeting = threading.Barrier(3)

    def meet() -> int:
        return meeting.wait(timeout=10)

    assert sorted(run_concurrently([meet] * 3, tmp_path)) == [0, 1, 2]


def test_a_failure_does_not_disturb_the_others(tmp_path: Path) -> None:
    def fail() -> str:
        raise ValueError("no")

    first, second, third = run_concurrently([lambda: "a", fail, lambda: ""], tmp_path)
    assert (first, third) == ("a", "")
    assert isinstance(second, ValueError)


def test_the_service_runs_for_the_job_and_ends_with_it(
    note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(note)
    monkeypatch.setenv(DEVICES, "3,5")
    with multi_process_service(tmp_path):
        pid, devices = note.read_text().split()
        assert psutil.Process(int(pid)).is_running()
        assert Path(os.environ[PIPES], "control").exists()
        assert os.environ["CUDA_MPS_LOG_DIRECTORY"] == str(tmp_path)
        # The service was given devices 3 and 5, and calls them 0 and 1.
        assert (devices, os.environ[DEVICES]) == ("3,5", "0,1")
    assert not psutil.pid_exists(int(pid))
    assert PIPES not in os.environ
    assert os.environ[DEVICES] == "3,5"


@pytest.mark.parametrize("devices", [None, "GPU-8a1f", "MIG-1,MIG-2", ""])
def test_devices_that_have_names_keep_them(devices: str | None) -> None:
    assert module._renumbered(devices) == {}


def test_a_service_that_does_not_start_is_done_without(note: Path, tmp_path: Path) -> None:
    install(note, start="sys.exit('no GPU')")
    with multi_process_service(tmp_path):
        assert PIPES not in os.environ
    assert "no GPU" in (tmp_path / "mps.log").read_text()


def test_a_service_that_does_not_end_is_killed(
    note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENDING_SECONDS", 0.3)
    install(note, start='(pipes / "control").touch(); time.sleep(60)')
    with multi_process_service(tmp_path):
        pid = int(note.read_text().split()[0])
    assert not psutil.pid_exists(pid)


def test_a_service_of_the_machine_is_left_alone(
    note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(note)
    monkeypatch.setenv(PIPES, "/of/the/machine")
    with multi_process_service(tmp_path):
        assert os.environ[PIPES] == "/of/the/machine"
    assert not note.exists()
