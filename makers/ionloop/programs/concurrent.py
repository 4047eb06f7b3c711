"""Run several programs at the same time; on one GPU, with NVIDIA's multi-process service.

One small network or cell leaves most of a GPU idle. Without the service the programs take turns
on it; with it their kernels run at the same time (https://docs.nvidia.com/deploy/mps). On a CPU
they are ordinary processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ionloop.programs.gpu import multi_process_service

Result = TypeVar("Result")


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
