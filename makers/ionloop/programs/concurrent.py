"""Several programs side by side, which on a GPU share it through NVIDIA's multi-process service.

One small network or cell leaves most of a GPU idle. Without the service the programs take turns
on it; with it their kernels run at the same time
(https://docs.nvidia.com/deploy/mps). On a CPU they are processes like others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ionloop.programs.gpu import multi_process_service

Result = TypeVar("Result")


def side_by_side(
    calls: Sequence[Callable[[], Result]], folder: Path
) -> list[Result | BaseException]:
    """Make calls at the same time, each of which starts a program and waits for it.

    Parameters
    ----------
    calls
        What to do. None of them is disturbed if another one fails.
    folder
        Where the logs of the multi-process service go, if there is one.

    Returns
    -------
    list
        For each call what it returned or raised.
    """
    with multi_process_service(folder), ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
    return [error if (error := each.exception()) else each.result() for each in futures]
