"""Running DeePMD-kit's backend for PyTorch, and ending a training that no longer improves."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ionloop.codes.common.training import TrainingError
from ionloop.codes.deepmd.program import FLAGS, check_backend, check_program
from ionloop.codes.dpa.inputs import VALIDATION
from ionloop.codes.finetuning.device import check_device
from ionloop.programs.concurrent import DEVICES
from ionloop.programs.log import last_lines
from ionloop.programs.process import has_ended, running_program, status_words

if TYPE_CHECKING:
    from ionloop.codes.dpa.settings import DpaSettings

CURE = "use an environment of its own with the extra deepmd-gpu-torch"

POLL_SECONDS = 1.0
"""Time between two looks at the comparisons with the held-back frames."""


def check_environment(settings: DpaSettings) -> None:
    """Check that DeePMD-kit's backend for PyTorch runs here, on the device that is asked for.

    Parameters
    ----------
    settings
        Command and device.

    Raises
    ------
    InputError
        If the device is absent.
    MissingProgramError
        If DeePMD-kit is not there, or was built for another PyTorch.
    """
    check_backend("pytorch", "train.code: dpa", CURE)
    check_program(settings.command)
    check_device(settings.device, "train.device")


def run(settings: DpaSettings, arguments: Sequence[str], folder: Path) -> bool:
    """Run DeePMD-kit in a folder; tell whether it came to its end.

    A training is ended once the comparisons with the held-back frames no longer improve, if the
    settings have a patience.

    Parameters
    ----------
    settings
        Command, device and patience.
    arguments
        Arguments of `dp --pt`.
    folder
        Where it runs.

    Raises
    ------
    TrainingError
        If it ends with an error.
    """
    command = [*shlex.split(settings.command), FLAGS["pytorch"], *arguments]
    log = folder / f"{arguments[0]}.log"
    variables = device_variables(settings.device)
    with (
        log.open("wb") as stream,
        running_program(command, folder, stream, variables=variables) as process,
    ):
        while not has_ended(process, POLL_SECONDS):
            if arguments[0] == "train" and is_stalled(folder / VALIDATION, settings.patience):
                return False
    if process.returncode:
        ended = status_words(process.returncode)
        raise TrainingError(f"`{shlex.join(command)}` {ended}{last_lines(log)}")
    return True


def is_stalled(log: Path, patience: int | None) -> bool:
    """Tell whether the last comparisons with the held-back frames were no better than the best.

    Parameters
    ----------
    log
        DeePMD-kit's log of the comparisons: a line for each, and one below it where a comparison
        was the best so far.
    patience
        How many comparisons; None for any number.
    """
    if patience is None or not log.exists():
        return False
    misses = 0
    for line in log.read_text().splitlines():
        if line.startswith("# saved best checkpoint"):
            misses = 0
        elif line.strip() and not line.startswith("#"):
            misses += 1
    # The line of a comparison is written before that which says whether it was the best.
    return misses > patience


def device_variables(device: str) -> Mapping[str, str]:
    """Return environment variables that make DeePMD-kit use a device.

    Parameters
    ----------
    device
        Such as cpu, cuda, or cuda:1.
    """
    variables = {"NUM_WORKERS": os.environ.get("NUM_WORKERS", "0")}  # frames are small
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return {**variables, "DEVICE": "cpu"}
    visible = [each for each in os.environ.get(DEVICES, "").split(",") if each]
    return (
        {**variables, DEVICES: visible[int(number)] if visible else number} if number else variables
    )
