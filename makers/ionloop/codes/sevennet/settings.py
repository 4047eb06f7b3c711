"""Settings of SevenNet models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from ionloop.codes.finetuning.torch_settings import TorchFineTuner
from ionloop.codes.sevennet.net import SevennetNet, open_net, random_net
from ionloop.geometry.neighbours import neighbours
from ionloop.schemas.frames import Frames

SEVENNET = "sevennet"
"""Kind of SevenNet's potentials."""

_BUNDLED = {
    "7net-0": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    "7net-0_22may2024": "SevenNet_0__22May2024/checkpoint_sevennet_0.pth",
    "7net-l3i5": "SevenNet_l3i5/checkpoint_l3i5.pth",
    "7net-mf-0": "SevenNet_MF_0/checkpoint_sevennet_mf_0.pth",
}
"""Files of the bases that come with SevenNet, below ``pretrained_potentials``."""


class SevennetSettings(TorchFineTuner):
    """How a SevenNet model is fine-tuned."""

    kind = SEVENNET
    package = "sevenn"
    model_name = "model.pth"
    start_keys: ClassVar[tuple[str, ...]] = ("modal",)
    network_keys: ClassVar[tuple[str, ...]] = ("cutoff", "channels", "lmax", "layers")

    base: str = "7net-0"
    """potential to begin with: 7net-0, 7net-l3i5 (more accurate, three times slower), 7net-mf-0,
    the path of a checkpoint (.pth), or scratch for random weights"""
    modal: str | None = None
    """functional of a base that knows several, such as PBE or R2SCAN of 7net-mf-0; none: PBE"""
    cutoff: PositiveFloat = 5.0
    """with `base: scratch`: range of an interaction in Å"""
    channels: PositiveInt = 32
    """with `base: scratch`: features of each kind"""
    lmax: PositiveInt = 2
    """with `base: scratch`: largest degree of the spherical harmonics"""
    layers: PositiveInt = 3
    """with `base: scratch`: interaction blocks"""

    def bundled(self) -> Mapping[str, Path]:
        """Return the files of the bases that come with SevenNet, by their names."""
        folder = self.package_folder() / "pretrained_potentials"
        return {name: folder / path for name, path in _BUNDLED.items()}

    def open(self, path: Path) -> SevennetNet:
        """Open a checkpoint file.

        Parameters
        ----------
        path
            As for `TorchFineTuner.open`.
        """
        return open_net(path, self.device, self.modal)

    def random_net(
        self, type_map: Sequence[str], training: Sequence[Frames], seed: int
    ) -> SevennetNet:
        """Return a net with random weights; see `TorchFineTuner.random_net`.

        Parameters
        ----------
        type_map, training, seed
            As for `TorchFineTuner.random_net`.
        """
        import torch

        forces = [frame.forces.ravel() for frame in training if frame.forces is not None]
        rms = float(np.sqrt(np.mean(np.concatenate(forces) ** 2)))
        scales = rms, _mean_neighbours(training[0], self.cutoff)
        network = {key: getattr(self, key) for key in self.network_keys}
        torch.manual_seed(seed)
        return random_net(type_map, network, scales, self.device)


def _mean_neighbours(frame: Frames, cutoff: float) -> float:
    """Return the mean number of neighbours of an atom within a cutoff in Å."""
    return float(sum(2 * found.weight.sum() for found in neighbours(frame, cutoff)) / frame.n_atoms)
