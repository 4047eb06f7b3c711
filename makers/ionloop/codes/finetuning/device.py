"""Whether the device that is asked for is there."""

from __future__ import annotations

from ionloop.programs.errors import MissingExtraError
from ionloop.schemas.errors import InputError


def check_device(device: str, key: str) -> None:
    """Check that torch can compute on a device.

    Parameters
    ----------
    device
        Such as ``cpu``, ``cuda`` or ``cuda:1``.
    key
        Key of the run file that names it.

    Raises
    ------
    InputError
        If torch does not see the device.
    MissingExtraError
        If torch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch", "forcefield", "fine-tuning") from error
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise InputError(
            f"{key}: {device!r} is no device of torch; use cpu, cuda, or cuda:1 and so on"
        ) from error
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        seen = torch.cuda.device_count()
        raise InputError(
            f"{key}: {device} is asked for, and torch {torch.__version__} sees {seen} GPUs here; "
            "set it to cpu, or run where a GPU and a torch built for CUDA are"
        )
