"""Many configurations evaluated as one batch by torch-sim."""

# mypy: allow-untyped-calls
from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes.ase.ensemble import Ensemble, Outcome
from ionloop.codes.ase.settings import AseSettings, Batched
from ionloop.codes.common.acceptance import Calculated
from ionloop.programs.errors import MissingExtraError
from ionloop.schemas.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

MODELS: Mapping[str, str] = {"sevennet": "ionloop.codes.ase.torchsim:sevennet_model"}
"""By kind: import path of a function (model file, device) that returns a model of torch-sim."""

AGREEMENT = 1e-5
"""Largest difference in eV/Å between forces of a batch and of single calculations."""

_SHEAR = np.array([[1.0, 0.03, -0.02], [0.0, 1.0, 0.04], [0.0, 0.0, 1.0]])

logger = logging.getLogger(__name__)


def why_not_batched(kind: str, settings: AseSettings) -> str:
    """Return why trajectories do not advance as one batch; empty if they do.

    Parameters
    ----------
    kind
        Kind of the potentials.
    settings
        Device, and whether batches are asked for.

    Raises
    ------
    InputError
        If batches are asked for always, and torch-sim has no model of this kind.
    MissingExtraError
        If they are asked for always, and torch-sim is not installed.
    """
    if settings.batched == "never":
        return "explore.batched is never"
    if kind not in MODELS:
        reason = f"torch-sim evaluates {', '.join(MODELS)} here, not {kind}"
        if settings.batched == "always":
            raise InputError(f"explore.batched: {reason}; set it to auto")
        return reason
    if settings.batched == "auto" and not settings.device.startswith("cuda"):
        return f"batches gain nothing on {settings.device}"
    if find_spec("torch_sim") is None:
        if settings.batched == "always":
            raise MissingExtraError("torch_sim", "torchsim", "explore.batched: always")
        return "torch-sim is not installed"
    return ""


class BatchedEnsemble(Ensemble):
    """The models of an ensemble, which evaluate many configurations as one batch.

    The first batch of every model, and a sheared copy of it, are compared with single calculations:
    if the forces differ, that model goes on with single ones, or the job ends.

    Parameters
    ----------
    kind
        Kind of the potentials, a key of `MODELS`.
    models
        Model files.
    device
        Device of torch.
    batched
        Whether batches are asked for always, or where they are sound.

    Raises
    ------
    InputError
        As for `Ensemble`.
    """

    def __init__(self, kind: str, models: Sequence[Path], device: str, batched: Batched) -> None:
        super().__init__(kind, models, device)
        self._device, self._batched = device, batched
        make: Callable[[Path, str], Any] = resolve_name(MODELS[kind])
        self._models: list[Any] = [make(model, device) for model in models]
        self._compared: set[int] = set()

    def evaluate(self, number: int, configurations: Sequence[Atoms]) -> list[Outcome]:
        """Calculate energies, forces and virials by one of the models; see `Ensemble.evaluate`.

        Parameters
        ----------
        number, configurations
            As for `Ensemble.evaluate`.

        Raises
        ------
        InputError
            If batches are asked for always, and their forces are not those of single calculations.
        """
        if not configurations:
            return []
        if number not in self._compared:
            self._compare(number, configurations)
        if self._models[number] is None:
            return super().evaluate(number, configurations)
        return self._batch(number, configurations)

    def _batch(self, number: int, configurations: Sequence[Atoms]) -> list[Outcome]:
        """Evaluate a batch; one that fails is divided until it is clear which of it failed."""
        try:
            return list(evaluate_together(self._models[number], configurations, self._device))
        except RuntimeError:
            if len(configurations) == 1:
                return super().evaluate(number, configurations)
        half = len(configurations) // 2
        parts = configurations[:half], configurations[half:]
        return [outcome for part in parts for outcome in self._batch(number, part)]

    def _compare(self, number: int, configurations: Sequence[Atoms]) -> None:
        self._compared.add(number)
        sheared = [each.copy() for each in configurations]
        for each in sheared:
            each.set_cell(each.cell.array @ _SHEAR, scale_atoms=True)
        both = [*configurations, *sheared]
        difference = largest_difference(super().evaluate(number, both), self._batch(number, both))
        if difference <= AGREEMENT:
            return
        sentence = (
            f"forces of a batch and of single calculations differ by {difference:.2g} eV/Å, more "
            f"than {AGREEMENT:g}"
        )
        if self._batched == "always":
            raise InputError(f"explore.batched: {sentence}; set it to auto or never")
        logger.warning("model %d is evaluated singly: %s", number, sentence)
        self._models[number] = None


def evaluate_together(model: Any, configurations: Sequence[Atoms], device: str) -> list[Calculated]:
    """Evaluate configurations as one batch.

    Parameters
    ----------
    model
        A model of torch-sim, which has forces and stresses.
    configurations
        The configurations, all periodic.
    device
        Device of torch.
    """
    import torch
    import torch_sim

    bare = list(configurations)
    state = torch_sim.io.atoms_to_state(bare, torch.device(device), model.dtype)
    results = {name: found.detach().cpu().double().numpy() for name, found in model(state).items()}
    ends = np.cumsum([len(atoms) for atoms in bare])
    return [
        Calculated(
            energy=float(results["energy"].ravel()[index]),
            forces=results["forces"][end - len(atoms) : end].copy(),
            virial=-atoms.get_volume() * results["stress"][index],
        )
        for index, (atoms, end) in enumerate(zip(bare, ends, strict=True))
    ]


def largest_difference(one: Sequence[Outcome], other: Sequence[Outcome]) -> float:
    """Return the largest difference of forces in eV/Å; infinite where one failed or is not finite.

    Parameters
    ----------
    one, other
        What two ways of calculation say of the same configurations.
    """
    largest = 0.0
    for first, second in zip(one, other, strict=True):
        if not (isinstance(first, Calculated) and isinstance(second, Calculated)):
            return float("inf")
        difference = float(np.abs(first.forces - second.forces).max())
        largest = max(largest, difference if np.isfinite(difference) else float("inf"))
    return largest


def sevennet_model(model: Path, device: str) -> Any:
    """Return a SevenNet checkpoint as a model of torch-sim.

    Parameters
    ----------
    model
        Checkpoint file.
    device
        Device of torch.
    """
    import torch
    from sevenn import calculator

    from ionloop.codes.sevennet.net import open_net

    # torch-sim 0.3 asks for a name that sevenn 0.13 no longer has
    if not hasattr(calculator, "torch_script_type"):
        vars(calculator)["torch_script_type"] = torch.jit._script.RecursiveScriptModule
    from torch_sim.models.sevennet import SevenNetModel
    from torch_sim.neighbors import vesin_nl_ts

    def neighbours(positions: Any, cell: Any, pbc: Any, cutoff: Any) -> Any:
        # The cell comes as a transposed view, whose strides not every neighbour search minds.
        return vesin_nl_ts(positions.contiguous(), cell.contiguous(), pbc, cutoff)

    net = open_net(model, device)
    return SevenNetModel(
        net.module, modal=net.modal, neighbor_list_fn=neighbours, device=torch.device(device)
    )
