"""Labelled frames as a training sees them, its loss, and its errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ionloop.codes.finetuning.net import Net, Predicted
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames

if TYPE_CHECKING:
    from torch import Tensor

    from ionloop.codes.finetuning.settings import FineTuner

HUBER_DELTA = 0.01
"""Deviation in eV/atom, eV/Å and GPa from which on the loss grows linearly, as in SevenNet's own
training (Park et al., J. Chem. Theory Comput. 20, 4857, 2024)."""

GPA = 160.21766208
"""GPa in an eV/Å³."""


@dataclass(frozen=True)
class Example:
    """A labelled frame.

    Parameters
    ----------
    frame
        Frames of one.
    graph
        Its graph.
    energy
        Total energy in eV.
    forces
        Forces in eV/Å, (n, 3).
    stress
        Stress in eV/Å³, tension positive, (3, 3); NaN without a label.
    """

    frame: Frames
    graph: Any
    energy: Tensor
    forces: Tensor
    stress: Tensor


@dataclass(frozen=True)
class Errors:
    """Loss and squared errors of a few frames.

    Parameters
    ----------
    loss
        The loss, which can be differentiated.
    energy
        Mean squared error of the energies per atom in (eV/atom)².
    force
        Mean squared error of the forces in (eV/Å)².
    """

    loss: Tensor
    energy: float
    force: float


def examples(net: Net, frames: Sequence[Frames]) -> list[Example]:
    """Return labelled frames as examples, in their order, each with its graph.

    Parameters
    ----------
    net
        The potential.
    frames
        Labelled frames.

    Raises
    ------
    InputError
        If a frame has no label.
    """
    return [_example(net, frame) for part in frames for frame in part]


def _example(net: Net, frame: Frames) -> Example:
    import torch

    if frame.energies is None or frame.forces is None:
        raise InputError(f"{frame!r} has no energies and forces, which a training needs")

    def tensor(values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.get_default_dtype(), device=net.device)

    stress = torch.full((3, 3), torch.nan, device=net.device)
    if frame.virials is not None:
        stress = tensor(-frame.virials[0] / frame.volumes[0])
    energy, forces = tensor(frame.energies[0]), tensor(frame.forces[0])
    return Example(frame, net.graph(frame), energy, forces, stress)


def errors(net: Net, batch: Sequence[Example], settings: FineTuner) -> Errors:
    """Compare a net with labels: Huber losses of energies per atom, forces and stresses.

    Parameters
    ----------
    net
        The potential.
    batch
        Examples that are evaluated together.
    settings
        Their weights count.
    """
    import torch

    predicted = net.evaluate([each.graph for each in batch])
    n_atoms = torch.tensor([each.frame.n_atoms for each in batch], device=net.device)
    wanted = torch.stack([each.energy for each in batch])
    energies = (predicted.energies - wanted) / n_atoms
    forces = predicted.forces - torch.cat([each.forces for each in batch])
    loss = settings.energy_weight * _huber(energies) + settings.force_weight * _huber(forces)
    if settings.stress_weight:
        loss = loss + settings.stress_weight * _stress_loss(predicted, batch)
    return Errors(loss, _mean_square(energies), _mean_square(forces))


def _stress_loss(predicted: Predicted, batch: Sequence[Example]) -> Tensor:
    import torch

    wanted = torch.stack([each.stress for each in batch])
    differences = GPA * (predicted.stresses - wanted)[torch.isfinite(wanted)]
    return _huber(differences) if differences.numel() else differences.sum()


def _huber(differences: Tensor) -> Tensor:
    """Return the mean Huber loss of differences (Huber, Ann. Math. Stat. 35, 73, 1964)."""
    from torch.nn.functional import huber_loss

    return huber_loss(differences, differences.new_zeros(differences.shape), delta=HUBER_DELTA)


def _mean_square(differences: Tensor) -> float:
    return float((differences.detach() ** 2).mean())
