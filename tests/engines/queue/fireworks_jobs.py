"""Small jobs for the tests of FireWorks; each notes every start of its body in a file."""

from __future__ import annotations

import os
import time
from pathlib import Path

from jobflow import CURRENT_JOB, Flow, JobConfig, OnMissing, Response, job

from ionloop.jobs.placement import Role, assign


def note(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def notes(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@job
def label(path: str, name: str, seconds: float = 0.0) -> int:
    note(path, f"{name} {os.environ.get('SLURM_JOB_PARTITION')}")
    time.sleep(seconds)
    return 1


@job
def train(path: str, name: str, values: list[int]) -> int:
    note(path, f"{name} {os.environ.get('SLURM_JOB_PARTITION')}")
    return sum(values)


@job
def turn(path: str, number: int, last: int, width: int, total: int = 0) -> Response:
    """One turn of a loop: labels side by side, a training on them, the next turn."""
    note(path, f"turn-{number} {os.environ.get('SLURM_JOB_PARTITION')}")
    if number == last:
        return Response(output=total)
    labels = [
        assign(label(path, f"label-{number}-{k}"), Role.LABEL, f"label {number}-{k}")
        for k in range(width)
    ]
    outputs = [one.output for one in labels]
    training = assign(train(path, f"train-{number}", outputs), Role.TRAIN, f"train {number}")
    following = new_turn(path, number + 1, last, width, training.output)  # type: ignore[arg-type]
    return Response(replace=Flow([*labels, training, following], output=following.output))


def new_turn(path: str, number: int, last: int, width: int, total: int = 0):
    return assign(
        turn(path, number, last, width, total), Role.DECIDE, f"turn {number}", bookkeeping=True
    )


@job
def fragile(path: str) -> int:
    """Fails as long as there is no file at path."""
    return len(Path(path).read_text())


@job
def resuming(path: str, seconds: float) -> str:
    """Work in steps and leave a checkpoint, as a training does."""
    checkpoint = Path("checkpoint")
    done = checkpoint.exists()
    note(path, f"resuming {'from checkpoint' if done else 'from scratch'}")
    checkpoint.write_text("half")
    time.sleep(0 if done else seconds)
    return str(Path.cwd())


@job(config=JobConfig(on_missing_references=OnMissing.NONE))
def collect(path: str, values: list) -> int:
    note(path, "collect")
    return sum(value is not None for value in values)


def role_of() -> str:
    return CURRENT_JOB.job.metadata["role"]
