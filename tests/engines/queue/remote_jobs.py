"""Small jobs for the tests of the engine for jobflow-remote; each notes every start of its body."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from jobflow import CURRENT_JOB, Flow, JobConfig, OnMissing, Response, job

from ionloop.jobs.placement import Role, assign


def note(path: str) -> None:
    """Append a line, in one write: jobs on several workers note at once."""
    current = CURRENT_JOB.job
    facts = {
        "name": current.name,
        "uuid": current.uuid,
        "partition": os.environ.get("SLURM_JOB_PARTITION"),
        "queue_id": os.environ.get("SLURM_JOB_ID"),
        "host_process": os.getpid(),
    }
    with Path(path).open("a") as file:
        file.write(json.dumps(facts) + "\n")


def notes(path: Path) -> list[dict[str, Any]]:
    """Return all notes, oldest first."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def starts(path: Path) -> Counter[str]:
    """Count the starts by the name of the job."""
    return Counter(entry["name"] for entry in notes(path))


@job(data="packed")
def heavy(path: str, number: int, seconds: float = 0.0) -> dict[str, Any]:
    """Do something on a compute node, with an output of arrays too."""
    note(path)
    time.sleep(seconds)
    return {"number": number, "packed": {"blob": "x" * 1000, "numbers": [number] * 10}}


@job(config=JobConfig(resolve_references=False))
def spread(path: str, turn: int, last: int) -> Response[Any]:
    """Ask for two heavy jobs and a job that collects them; light, as it sees references only."""
    note(path)
    parts = [
        assign(heavy(path, turn + shift), role, f"{role} {turn}")
        for shift, role in enumerate((Role.LABEL, Role.TRAIN))
    ]
    collected = assign(
        collect(path, [part.output["number"] for part in parts], turn, last),
        Role.DECIDE,
        f"collect {turn}",
        bookkeeping=True,
    )
    return Response(replace=Flow([*parts, collected], output=collected.output))


@job(config=JobConfig(on_missing_references=OnMissing.NONE))
def collect(path: str, numbers: list[int | None], turn: int, last: int) -> Any:
    """Add up, and ask for the next turn until the last."""
    note(path)
    if None in numbers:
        raise ValueError(f"{numbers.count(None)} of {len(numbers)} are missing")
    if turn == last:
        return Response(output={"sum": sum(numbers)})
    following = assign(
        spread(path, turn + 1, last), Role.DECIDE, f"spread {turn + 1}", bookkeeping=True
    )
    return Response(replace=Flow([following], output=following.output))


@job
def fragile(path: str, needed: str) -> int:
    """Fail as long as there is no file, and leave a trace in the folder of the job."""
    note(path)
    here = Path("trace")
    here.write_text(here.read_text() + "x" if here.exists() else "x")
    if not Path(needed).exists():
        raise FileNotFoundError(f"no {Path(needed).name} here")
    return len(here.read_text())


def loop(path: Path, last: int) -> Flow:
    """Return a loop of turns, each made by the turn before it."""
    first = assign(spread(str(path), 0, last), Role.DECIDE, "spread 0", bookkeeping=True)
    return Flow([first], output=first.output)


def many(path: Path, number: int, role: str, seconds: float = 0.0) -> Flow:
    """Return independent jobs of one role."""
    return Flow(
        [assign(heavy(str(path), i, seconds), Role(role), f"{role} {i}") for i in range(number)]
    )


def chain(path: Path, seconds: float = 0.0) -> Flow:
    """Return a label, and a training that needs it."""
    label = assign(heavy(str(path), 1, seconds), Role.LABEL, "label")
    train = assign(heavy(str(path), label.output["number"]), Role.TRAIN, "train")
    return Flow([label, train], output=train.output)


@job(config=JobConfig(resolve_references=False))
def account(path: str, needed: str) -> Response[Any]:
    """Ask for two labels, of which one is fragile, and for a job that wants both."""
    note(path)
    good = assign(heavy(path, 1), Role.LABEL, "good")
    bad = assign(fragile(path, needed), Role.LABEL, "bad")
    numbers = [good.output["number"], bad.output]
    both = assign(collect(path, numbers, 0, 0), Role.LABEL, "both", bookkeeping=True)
    return Response(replace=Flow([good, bad, both], output=both.output))


def floor(path: Path, needed: Path) -> Flow:
    """Return an account of labels, and a training that needs it."""
    labels = assign(account(str(path), str(needed)), Role.LABEL, "account", bookkeeping=True)
    train = assign(heavy(str(path), labels.output["sum"]), Role.TRAIN, "train")
    return Flow([labels, train], output=train.output)
