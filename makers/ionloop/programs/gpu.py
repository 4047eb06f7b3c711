"""CUDA's multi-process service: several processes on one GPU at the same time."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from ionloop.programs.environment import environment

CONTROL = "nvidia-cuda-mps-control"

PIPES = "CUDA_MPS_PIPE_DIRECTORY"

DEVICES = "CUDA_VISIBLE_DEVICES"

START_SECONDS = 10.0

ENDING_SECONDS = 10.0


logger = logging.getLogger(__name__)


@contextmanager
def multi_process_service(folder: Path) -> Iterator[None]:
    """Let the programs that are started meanwhile share a GPU, where that can be done.

    Nothing happens where the service is not installed, does not start, or is one of the machine.

    Parameters
    ----------
    folder
        Where its logs go.
    """
    control = shutil.which(CONTROL)
    if control is None or PIPES in os.environ:
        yield
        return
    # Its sockets want a short path on a local disk, which a job's folder may not be.
    with TemporaryDirectory(prefix="mps-") as pipes:
        service = {PIPES: pipes, "CUDA_MPS_LOG_DIRECTORY": str(folder.absolute())}
        with _daemon(control, service, folder) as running, environment(running):
            yield


@contextmanager
def _daemon(control: str, service: Mapping[str, str], folder: Path) -> Iterator[Mapping[str, str]]:
    """Provide the environment of the clients, which is empty if the service does not start."""
    own = {**os.environ, **service}
    # In the foreground: a worker that is killed with its process group takes it along.
    with (folder / "mps.log").open("ab") as log:
        process = subprocess.Popen(
            [control, "-f"],
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        if _is_up(process, Path(service[PIPES])):
            yield {**service, **_renumbered(os.environ.get(DEVICES))}
        else:
            logger.warning("%s did not start (see %s); programs take turns", control, log.name)
            yield {}
    finally:
        _end(process, control, own)


def _is_up(process: subprocess.Popen[bytes], pipes: Path) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if (pipes / "control").exists():
            return True
        time.sleep(0.05)
    return False


def _renumbered(devices: str | None) -> dict[str, str]:
    """Return what clients are to see: the service numbers the devices it was given from 0."""
    numbers = devices.split(",") if devices else []
    if not numbers or not all(number.strip().isdigit() for number in numbers):
        return {}
    return {DEVICES: ",".join(map(str, range(len(numbers))))}


def _end(process: subprocess.Popen[bytes], control: str, own: Mapping[str, str]) -> None:
    if process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [control],
                input=b"quit -t 1\n",
                env=own,
                capture_output=True,
                timeout=ENDING_SECONDS,
                check=False,
            )
            process.wait(ENDING_SECONDS)
    if process.poll() is None:
        process.kill()
    process.wait()
