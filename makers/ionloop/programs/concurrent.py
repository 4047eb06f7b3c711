"""Run several programs at the same time; on one GPU, with NVIDIA's multi-process service.

One small network or cell leaves most of a GPU idle. Without the service the programs take turns
on it; with it their kernels run at the same time (https://docs.nvidia.com/deploy/mps). On a CPU
they are ordinary processes.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from ionloop.programs.environment import environment
from ionloop.programs.process import ProgramError, ask, has_ended, running_program

CONTROL = "nvidia-cuda-mps-control"

PIPES = "CUDA_MPS_PIPE_DIRECTORY"

DEVICES = "CUDA_VISIBLE_DEVICES"

START_SECONDS = 10.0

ENDING_SECONDS = 10.0

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def run_concurrently(
    calls: Sequence[Callable[[], Result]], folder: Path
) -> list[Result | BaseException]:
    """Make calls at the same time, each of which starts a program and waits for it.

    Parameters
    ----------
    calls
        What to do. If one fails, the others go on.
    folder
        Folder for the logs of the multi-process service.

    Returns
    -------
    list
        For each call what it returned or raised.
    """
    with multi_process_service(folder), ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
    return [error if (error := each.exception()) else each.result() for each in futures]


@contextmanager
def multi_process_service(folder: Path) -> Iterator[None]:
    """Let the programs that are started inside this context share a GPU, where that is possible.

    Nothing happens where the service is not installed, does not start, or already runs for the
    whole machine.

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
    with TemporaryDirectory(prefix="mps-") as pipes, (folder / "mps.log").open("ab") as log:
        service = {PIPES: pipes, "CUDA_MPS_LOG_DIRECTORY": str(folder.absolute())}
        # In the foreground: a worker that is killed with its process group takes it along.
        with running_program([control, "-f"], folder, log, variables=service) as process:
            if not _is_up(process, Path(pipes)):
                logger.warning("%s did not start (see %s); programs take turns", control, log.name)
                yield
                return
            with environment({**service, **_renumbered(os.environ.get(DEVICES))}):
                try:
                    yield
                finally:
                    with suppress(ProgramError):
                        ask([control], "quit -t 1\n", seconds=ENDING_SECONDS)
                        has_ended(process, ENDING_SECONDS)


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
