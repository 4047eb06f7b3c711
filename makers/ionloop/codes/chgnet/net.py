"""CHGNet models that can be trained, from and to their files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ionloop.codes.finetuning.elements import MPTRJ
from ionloop.codes.finetuning.examples import GPA
from ionloop.codes.finetuning.net import ABOUT, Net, Predicted
from ionloop.formats.pymatgen import to_pymatgen
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames

if TYPE_CHECKING:
    from torch.nn import Parameter

_EMBEDDING = ("atom_embedding", "bond_", "angle_basis_expansion", "angle_embedding")
"""Beginnings of the names of weights before the first interaction block."""

_BLOCKS = ("atom_conv_layers", "bond_conv_layers", "angle_layers")
"""Lists of the parts of the interaction blocks."""


class ChgnetNet(Net):
    """A CHGNet model."""

    def graph(self, frame: Frames) -> Any:
        """Return the graph of one frame."""
        (structure,) = to_pymatgen(frame.unlabelled())
        self.module.graph_converter.set_isolated_atom_response("ignore")
        return self.module.graph_converter(structure)

    def evaluate(self, graphs: Sequence[Any]) -> Predicted:
        """Evaluate graphs.

        CHGNet gives energies per atom in eV, and stresses in GPa, tension positive.
        """
        import torch

        result = self.module([graph.to(self.device) for graph in graphs], task="efs")
        n_atoms = torch.tensor([len(forces) for forces in result["f"]], device=self.device)
        return Predicted(
            result["e"] * n_atoms if self.module.is_intensive else result["e"],
            torch.cat(list(result["f"])),
            torch.stack(list(result["s"])) / GPA,
        )

    def shift_energies(self, shifts: Mapping[str, float]) -> None:
        """Add energies in eV per atom of each element."""
        import torch
        from ase.data import atomic_numbers

        with torch.no_grad():
            for symbol, energy in shifts.items():
                self.module.composition_model.fc.weight[0, atomic_numbers[symbol] - 1] += energy

    @property
    def readout(self) -> Parameter:
        """Weights of the last layer."""
        weights: Parameter = [p for p in self.module.mlp.parameters() if p.ndim == 2][-1]
        return weights

    @property
    def blocks(self) -> list[list[Parameter]]:
        """Weights of the embedding, and then of each interaction block."""
        named = [
            (name, weights)
            for name, weights in self.module.named_parameters()
            if not name.startswith("composition_model")
        ]
        prefixes = [tuple(f"{part}.{n}." for part in _BLOCKS) for n in range(self.module.n_conv)]
        embedding = [
            weights
            for name, weights in named
            if name.startswith(_EMBEDDING) and not name.startswith(_BLOCKS)
        ]
        return [embedding, *([w for name, w in named if name.startswith(p)] for p in prefixes)]

    def to_bytes(self) -> bytes:
        """Return the content of a model file of CHGNet."""
        import torch

        model = self.module.as_dict()
        weights = {name: value.cpu() for name, value in model["state_dict"].items()}
        buffer = io.BytesIO()
        torch.save({"model": {**model, "state_dict": weights}, ABOUT: self.about}, buffer)
        return buffer.getvalue()


def open_net(path: Path, device: str) -> ChgnetNet:
    """Open a model file of CHGNet.

    Parameters
    ----------
    path
        The file.
    device
        Device of torch.

    Raises
    ------
    InputError
        If it is no such file, or of another version.
    """
    import torch
    from chgnet.model.model import CHGNet

    cure = "give a model file that CHGNet or ionloop wrote"
    try:
        content = torch.load(path, weights_only=False, map_location="cpu")
        arguments, weights = content["model"]["model_args"], content["model"]["state_dict"]
    except Exception as problem:
        raise InputError(f"{path} is no model file of CHGNet ({problem!r}); {cure}") from problem
    try:
        module = CHGNet(**{"mlp_out_bias": False, **arguments})
        module.load_state_dict(weights)
    except Exception as problem:
        raise InputError(
            f"{path}: the model cannot be built from this file of CHGNet ({problem}); it is of "
            f"another version or damaged: {cure} of the version here"
        ) from problem
    about = dict(content.get(ABOUT, {}))
    return ChgnetNet(module, about.get("elements", MPTRJ), about, device)


def random_net(type_map: Sequence[str], network: Mapping[str, Any], device: str) -> ChgnetNet:
    """Return a model with random weights, from torch's random numbers.

    Parameters
    ----------
    type_map
        Chemical symbols that it knows.
    network
        Settings ``cutoff`` in Å, ``features`` and ``layers``.
    device
        Device of torch.
    """
    from chgnet.model.model import CHGNet

    size = network["features"]
    module = CHGNet(
        atom_fea_dim=size,
        bond_fea_dim=size,
        angle_fea_dim=size,
        atom_conv_hidden_dim=size,
        bond_conv_hidden_dim=size,
        mlp_hidden_dims=(size, size),
        n_conv=network["layers"],
        atom_graph_cutoff=network["cutoff"],
        conv_norm=None,
    )
    return ChgnetNet(module, type_map, {}, device)
