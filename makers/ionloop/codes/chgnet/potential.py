"""CHGNet models as ASE calculators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ionloop.codes.chgnet.net import open_net
from ionloop.codes.common.ase import without_known_warnings
from ionloop.codes.common.threads import use_one_thread

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


def calculator(model: Path, device: str = "cpu") -> Calculator:
    """Return the ASE calculator of a model file.

    Parameters
    ----------
    model
        Model file of CHGNet.
    device
        Device of torch.

    Raises
    ------
    InputError
        If it is no such file.
    """
    from chgnet.model.dynamics import CHGNetCalculator

    use_one_thread()
    with without_known_warnings():
        net = open_net(model, device)
        made: Calculator = CHGNetCalculator(
            net.module, use_device=device, on_isolated_atoms="ignore"
        )
    return made
