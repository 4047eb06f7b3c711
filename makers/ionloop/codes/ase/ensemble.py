"""The models of an ensemble in this process, and what they say of configurations."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes import potentials
from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.ase import evaluate
from ionloop.codes.common.threads import use_one_thread
from ionloop.codes.finetuning.device import check_device
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.packed import Array
from ionloop.schemas.potential import DEEPMD

if TYPE_CHECKING:
    from ase import Atoms

_CHOOSE_THEMSELVES = {DEEPMD, "mace"}
"""Kinds whose programs look for the device themselves, with a torch of their own or none."""

Outcome = Calculated | Exception
"""What a model says of a configuration, or how its calculation failed."""


class Ensemble:
    """The models of an ensemble, each loaded once.

    Parameters
    ----------
    kind
        Kind of the potentials.
    models
        Model files.
    device
        Device of torch.

    Raises
    ------
    InputError
        If nothing is known of the kind, or the device is not there.
    """

    def __init__(self, kind: str, models: Sequence[Path], device: str = "cpu") -> None:
        check_device_of(kind, device)
        self._calculators = [potentials.calculator(kind, model, device) for model in models]
        if "torch" in sys.modules:
            use_one_thread()

    def __len__(self) -> int:
        """Return the number of models."""
        return len(self._calculators)

    def forget(self) -> None:
        """Let the models forget earlier configurations, such as lists of neighbours.

        What they say of a configuration then depends on it alone, to the last bit.
        """
        for calculator in self._calculators:
            reset: Any = getattr(calculator, "reset", None)
            if reset is not None:
                reset()

    def evaluate(self, number: int, configurations: Sequence[Atoms]) -> list[Outcome]:
        """Calculate energies, forces and virials by one of the models.

        Parameters
        ----------
        number
            Number of the model.
        configurations
            Configurations; one whose calculation fails does not touch the others.

        Raises
        ------
        IonloopError, MemoryError
            If it is not for the configuration that the calculation failed.
        """
        return [self._evaluate(number, atoms) for atoms in configurations]

    def _evaluate(self, number: int, atoms: Atoms) -> Outcome:
        try:
            atoms.calc = self._calculators[number]  # some refuse unknown elements here
            return evaluate(atoms)
        except (IonloopError, MemoryError):
            raise
        except Exception as problem:  # packages of others may raise anything
            if "out of memory" in str(problem):
                raise MemoryError(str(problem)) from problem
            return problem


def check_device_of(kind: str, device: str) -> None:
    """Check that potentials of a kind can compute on a device.

    Parameters
    ----------
    kind
        Kind of the potentials.
    device
        Device of torch.

    Raises
    ------
    InputError
        If torch does not see the device.
    MissingExtraError
        If torch is not installed.
    """
    if kind not in _CHOOSE_THEMSELVES and device != "cpu":
        check_device(device, "explore.device")


def wrapped(positions: Array, cell: Array) -> Array:
    """Return positions inside the cell, where single precision has most digits.

    Parameters
    ----------
    positions
        Positions in Å, (n, 3).
    cell
        Lattice vectors as rows in Å, (3, 3).
    """
    inside: Array = positions - np.floor(positions @ np.linalg.inv(cell)) @ cell
    return inside
