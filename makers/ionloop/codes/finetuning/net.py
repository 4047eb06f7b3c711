"""What a training asks of a potential, whichever package it is of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes.common.prediction import Prediction
from ionloop.schemas.frames import Frames

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter

ABOUT = "ionloop"
"""Key of a model file under which stands what the model began with."""


@dataclass(frozen=True)
class Predicted:
    """What a net says about a few frames, as tensors that can be differentiated.

    Parameters
    ----------
    energies
        Total energies in eV, (b,).
    forces
        Forces in eV/Å of the atoms of all frames, one frame after the other, (sum of n, 3).
    stresses
        Stresses in eV/Å³, tension positive, (b, 3, 3).
    """

    energies: Tensor
    forces: Tensor
    stresses: Tensor


class Net(ABC):
    """A potential that can be trained.

    Parameters
    ----------
    module
        The network, on its device.
    elements
        Chemical symbols that it knows.
    about
        What it began with, in values that a model file can hold.
    device
        Device of torch.
    """

    def __init__(
        self, module: Module, elements: Iterable[str], about: Mapping[str, Any], device: str
    ) -> None:
        self.module: Any = module.to(device)
        self.elements = frozenset(elements)
        self.about = dict(about)
        self.device = device

    @abstractmethod
    def graph(self, frame: Frames) -> Any:
        """Return the graph of one frame, which can be evaluated many times."""

    @abstractmethod
    def evaluate(self, graphs: Sequence[Any]) -> Predicted:
        """Evaluate graphs; in training mode the forces can be differentiated."""

    @abstractmethod
    def shift_energies(self, shifts: Mapping[str, float]) -> None:
        """Add energies in eV per atom of each element."""

    @property
    @abstractmethod
    def readout(self) -> Parameter:
        """Weights of the last layer."""

    @property
    @abstractmethod
    def blocks(self) -> list[list[Parameter]]:
        """Weights of the embedding, and then of each interaction block."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """Return the content of a model file from which the net can be opened again."""

    def freeze(self, n_blocks: int) -> None:
        """Keep the weights of the embedding and of the first blocks as they are.

        Parameters
        ----------
        n_blocks
            Interaction blocks; if there are fewer, all of them.
        """
        for block in self.blocks[: n_blocks + 1]:
            for parameter in block:
                parameter.requires_grad_(False)

    @property
    def trained(self) -> list[Parameter]:
        """Weights that are not frozen."""
        parameters: Iterable[Parameter] = self.module.parameters()
        return [each for each in parameters if each.requires_grad]

    def predict(self, frames: Frames, graphs: Sequence[Any]) -> Prediction:
        """Evaluate frames, one after the other.

        Parameters
        ----------
        frames
            Configurations, labelled or not.
        graphs
            Their graphs.
        """
        self.module.eval()
        results = [self.evaluate([graph]) for graph in graphs]
        stresses = _array([result.stresses for result in results], (len(frames), 3, 3))
        return Prediction(
            energies=_array([result.energies for result in results], (1, len(frames))),
            forces=_array([r.forces for r in results], (1, len(frames), frames.n_atoms, 3)),
            virials=(-stresses * frames.volumes[:, None, None])[None],
        )


def _array(tensors: Sequence[Tensor], shape: tuple[int, ...]) -> Any:
    rows = [tensor.detach().cpu().numpy().astype(float) for tensor in tensors]
    return np.array(rows).reshape(shape)
