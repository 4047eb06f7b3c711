"""SevenNet models as ASE calculators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ionloop.codes.common.ase import without_known_warnings
from ionloop.codes.common.threads import use_one_thread
from ionloop.codes.sevennet.net import open_net

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


def calculator(model: Path, device: str = "cpu") -> Calculator:
    """Return the ASE calculator of a checkpoint file.

    Parameters
    ----------
    model
        Checkpoint file of SevenNet.
    device
        Device of torch.

    Raises
    ------
    InputError
        If it is no such file, or of a later version.
    """
    from sevenn.calculator import SevenNetCalculator

    use_one_thread()
    with without_known_warnings():
        net = open_net(model, device)
        made: Calculator = SevenNetCalculator(
            net.module, file_type="model_instance", device=device, modal=net.modal
        )
    return made
