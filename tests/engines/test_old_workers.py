"""What users of version 0.1 wrote into the files of their workers, and what queues still hold."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ionloop.engines.remote.project import bookkeeping_fault

OLD = "python -m ionloop.runners.remote_job {}"


def project(execution_cmd: str | None) -> Any:
    worker = SimpleNamespace(execution_cmd=execution_cmd)
    return cast("Any", SimpleNamespace(name="mine", workers={"here": worker}))


@pytest.mark.parametrize("command", [OLD, "python -m ionloop.engines.remote.job {}"])
def test_the_command_of_a_worker_of_any_version_is_accepted(command: str) -> None:
    assert bookkeeping_fault(project(command), {}) is None


@pytest.mark.parametrize("command", [None, "jf execution run {}"])
def test_another_command_is_refused(command: str | None) -> None:
    fault = bookkeeping_fault(project(command), {})
    assert fault is not None
    assert "needs the line: execution_cmd: python -m ionloop.engines.remote.job {}" in fault


def test_the_old_command_still_runs() -> None:
    command = [sys.executable, *OLD.split()[1:-1], "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "folder of the job" in done.stdout


def test_fireworks_loads_a_task_of_version_0_1() -> None:
    pytest.importorskip("fireworks")
    from fireworks import Firework

    from ionloop.engines.fireworks.task import LoopTask

    task = {"_fw_name": "{{ionloop.runners.fireworks_task.LoopTask}}", "job": {}, "store": {}}
    firework = Firework.from_dict({"fw_id": 1, "spec": {"_tasks": [task]}, "name": "label"})
    assert isinstance(firework.tasks[0], LoopTask)
