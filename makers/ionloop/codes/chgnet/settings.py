"""Settings of CHGNet models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import PositiveFloat, PositiveInt

from ionloop.codes.chgnet.net import ChgnetNet, open_net, random_net
from ionloop.codes.finetuning.torch_settings import TorchFineTuner
from ionloop.schemas.frames import Frames

CHGNET = "chgnet"
"""Kind of CHGNet's potentials."""

_BUNDLED = "0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"
"""File of the base that comes with CHGNet, below ``pretrained``."""


class ChgnetSettings(TorchFineTuner):
    """How a CHGNet model is fine-tuned."""

    kind = CHGNET
    package = "chgnet"
    model_name = "model.pt"
    network_keys: ClassVar[tuple[str, ...]] = ("cutoff", "features", "layers")

    base: str = "chgnet"
    """potential to begin with: chgnet (version 0.3.0), the path of a model file, or scratch for
    random weights"""
    cutoff: PositiveFloat = 6.0
    """with `base: scratch`: range of an interaction in Å"""
    features: PositiveInt = 32
    """with `base: scratch`: features of atoms, bonds and angles"""
    layers: PositiveInt = 3
    """with `base: scratch`: interaction blocks"""

    def bundled(self) -> Mapping[str, Path]:
        """Return the file of the base that comes with CHGNet, by its name."""
        return {"chgnet": self.package_folder() / "pretrained" / _BUNDLED}

    def open(self, path: Path) -> ChgnetNet:
        """Open a model file.

        Parameters
        ----------
        path
            As for `TorchFineTuner.open`.
        """
        return open_net(path, self.device)

    def random_net(
        self, type_map: Sequence[str], training: Sequence[Frames], seed: int
    ) -> ChgnetNet:
        """Return a net with random weights; see `TorchFineTuner.random_net`.

        Parameters
        ----------
        type_map, training, seed
            As for `TorchFineTuner.random_net`.
        """
        import torch

        torch.manual_seed(seed)
        return random_net(
            type_map, {key: getattr(self, key) for key in self.network_keys}, self.device
        )
