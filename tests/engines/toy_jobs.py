"""Small jobs for the tests of the runner. Each notes every start of its body in a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from jobflow import CURRENT_JOB, Flow, JobConfig, JobStore, OnMissing, Response, job, run_locally
from maggma.stores import MemoryStore


def note(path: str, **facts: object) -> None:
    line = json.dumps({"uuid": CURRENT_JOB.job.uuid, "index": CURRENT_JOB.job.index} | facts)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def notes(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@job(data="blob")
def add(path: str, a: float, b: float, seconds: float = 0.0) -> dict:
    start = time.time()
    time.sleep(seconds)
    note(path, name="add", start=start, end=time.time())
    return {"sum": a + b, "blob": [a, b]}


@job
def turn(path: str, value: float, index: int, last: int, seconds: float = 0.0) -> Response:
    """One turn of a loop: adds index to value, and asks for the next turn."""
    note(path, name=f"turn {index}", start=time.time())
    if index == last:
        return Response(output={"sum": value})
    one = add(path, value, index, seconds)
    following = turn(path, one.output["sum"], index + 1, last, seconds)
    return Response(replace=Flow([one, following], output=following.output))


@job
def nested(path: str, depth: int) -> Response:
    if depth == 0:
        return Response(output={"sum": 7})
    inner = nested(path, depth - 1)
    return Response(replace=Flow([Flow([inner], output=inner.output)], output=inner.output))


@job
def divert(path: str, seconds: float, kind: str) -> Response:
    """Detour or addition that takes its time."""
    slow = add(path, 1, 2, seconds)
    more: dict[str, Any] = {kind: slow}
    return Response(output=5, **more)


@job
def stopping(kind: str) -> Response:
    order: dict[str, Any] = {kind: True}
    return Response(output=1, **order)


@job
def raising(text: str = "no such pseudopotential") -> None:
    raise ValueError(text)


@job
def becoming_a_failure() -> Response:
    bad = raising()
    return Response(replace=Flow([bad], output=bad.output))


@job
def dying(number: int = signal.SIGSEGV) -> None:
    os.kill(os.getpid(), number)


@job
def dying_once(path: str) -> int:
    first = not Path(path).exists()
    note(path, name="dying once")
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
    return 3


@job
def fragile(path: str) -> int:
    """Fails as long as there is no file at path."""
    return len(Path(path).read_text())


@job(config=JobConfig(on_missing_references=OnMissing.NONE))
def tolerant(values: list) -> int:
    return sum(value is not None for value in values)


@job
def count(*values: object) -> int:
    return len(values)


@job
def environment(*names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names]


@job
def sleeping(path: str, seconds: float) -> float:
    """Sleep in a child program, as a job that runs lmp would; started again, do not."""
    again = Path(path).exists()
    program = subprocess.Popen(["sleep", str(0 if again else seconds)])
    note(path, name="sleeping", pid=os.getpid(), program=program.pid)
    program.wait()
    return seconds


@job
def stubborn(path: str, seconds: float) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(path, name="stubborn", pid=os.getpid())
    time.sleep(seconds)


def everything(path: Path, seconds: float) -> Flow:
    """A diamond, a loop of four turns, a detour and an addition, in one flow."""
    top = add(str(path), 1, 2, seconds)
    left = add(str(path), top.output["sum"], 10, seconds)
    right = add(str(path), top.output["sum"], 20, seconds)
    bottom = add(str(path), left.output["sum"], right.output["sum"], seconds)
    loop = turn(str(path), bottom.output["sum"], 0, 3, seconds)
    detour = divert(str(path), seconds, "detour")
    addition = divert(str(path), seconds, "addition")
    after = add(str(path), loop.output["sum"], detour.output, seconds)
    return Flow([top, left, right, bottom, loop, detour, addition, after], output=after.output)


def outputs(store: JobStore) -> list[dict[str, Any]]:
    """All outputs, without what differs from one build of a flow to the next."""
    found = [
        {
            "name": doc["name"],
            "index": doc["index"],
            "output": store.get_output(doc["uuid"], which=doc["index"], load=True),
        }
        for doc in store.query({})
    ]
    return sorted(found, key=json.dumps)


def reference_outputs(path: Path) -> list[dict[str, Any]]:
    """Outputs of the flow of everything, from jobflow's own serial runner."""
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    run_locally(everything(path, 0.0), store=store, log=False, ensure_success=True)
    return outputs(store)
