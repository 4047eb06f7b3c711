"""SevenNet models that can be trained, from and to their checkpoint files."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes.finetuning.net import ABOUT, Net, Predicted
from ionloop.formats.ase import to_ase
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames

if TYPE_CHECKING:
    from torch.nn import Parameter

_FUNCTIONAL = "functional"  # key of what a model of several functionals was trained for

DEFAULT_MODAL = "PBE"
"""Functional of a multi-fidelity model where none is named."""

_VOIGT = [[0, 3, 5], [3, 1, 4], [5, 4, 2]]
"""Places of a 3 x 3 tensor in SevenNet's order xx, yy, zz, xy, yz, zx."""


class SevennetNet(Net):
    """A SevenNet model.

    Parameters
    ----------
    module
        The network.
    config
        SevenNet's description of it.
    about
        What it began with.
    modal
        Functional, where the model knows several.
    device
        Device of torch.
    """

    def __init__(
        self,
        module: Any,
        config: Mapping[str, Any],
        about: Mapping[str, Any],
        modal: str | None,
        device: str,
    ) -> None:
        from ase.data import chemical_symbols

        self.config, self.modal = dict(config), modal
        self.types = {chemical_symbols[z]: place for z, place in config["_type_map"].items()}
        module.set_is_batch_data(True)
        super().__init__(module, self.types, about, device)
        _shift_by_element(self)

    def graph(self, frame: Frames) -> Any:
        """Return the graph of one frame."""
        from sevenn import _keys
        from sevenn.atom_graph_data import AtomGraphData
        from sevenn.train.dataload import unlabeled_atoms_to_graph

        (atoms,) = to_ase(frame.unlabelled())
        graph = AtomGraphData.from_numpy_dict(
            unlabeled_atoms_to_graph(atoms, self.config["cutoff"], with_shift=False)
        )
        if self.modal:
            graph[_keys.DATA_MODALITY] = self.modal
        return graph

    def evaluate(self, graphs: Sequence[Any]) -> Predicted:
        """Evaluate graphs."""
        from sevenn import _keys
        from torch_geometric.data import Batch

        batch = Batch.from_data_list([graph.clone() for graph in graphs]).to(self.device)
        result = self.module(batch)
        return Predicted(
            result[_keys.PRED_TOTAL_ENERGY].reshape(-1),
            result[_keys.PRED_FORCE],
            -result[_keys.PRED_STRESS].reshape(-1, 6)[:, _VOIGT],
        )

    def shift_energies(self, shifts: Mapping[str, float]) -> None:
        """Add energies in eV per atom of each element."""
        import torch

        shift = self.module.rescale_atomic_energy.shift
        row = shift if shift.ndim == 1 else shift[self.config["_modal_map"][self.modal]]
        with torch.no_grad():
            for symbol, energy in shifts.items():
                row[self.types[symbol]] += energy

    @property
    def readout(self) -> Parameter:
        """Weights of the last layer."""
        last = "readout_FCN" if self.config["readout_as_fcn"] else "reduce_hidden_to_energy"
        weights: Parameter = list(getattr(self.module, last).parameters())[-1]
        return weights

    @property
    def blocks(self) -> list[list[Parameter]]:
        """Weights of the embedding, and then of each interaction block."""
        n_blocks = self.config["num_convolution_layer"]
        prefixes = [
            ("edge_embedding.", "onehot_to_feature_x."),
            *((f"{n}_",) for n in range(n_blocks)),
        ]
        named = list(self.module.named_parameters())
        return [[weights for name, weights in named if name.startswith(p)] for p in prefixes]

    def to_bytes(self) -> bytes:
        """Return the content of a checkpoint file of SevenNet.

        The weights are those of a model that this version of SevenNet built. With the version of
        the base in the file, SevenNet would sort them once more when it reads the file.
        """
        import sevenn
        import torch

        weights = {name: value.cpu() for name, value in self.module.state_dict().items()}
        buffer = io.BytesIO()
        content = {
            "config": {**self.config, "version": sevenn.__version__},
            "model_state_dict": weights,
            ABOUT: {**self.about, _FUNCTIONAL: self.modal},
        }
        torch.save(content, buffer)
        return buffer.getvalue()


def open_net(path: Path, device: str, modal: str | None = None) -> SevennetNet:
    """Open a checkpoint file of SevenNet.

    Parameters
    ----------
    path
        The file.
    device
        Device of torch.
    modal
        Functional of a model that knows several; by default that which it was trained for, else
        `DEFAULT_MODAL`.

    Raises
    ------
    InputError
        If it is no such file, of a later version, or does not know the functional.
    """
    about = _checked(path)
    from sevenn.checkpoint import SevenNetCheckpoint

    try:
        checkpoint = SevenNetCheckpoint(path)
        module, config = checkpoint.build_model(), checkpoint.config
    except Exception as problem:
        raise InputError(
            f"{path}: the model cannot be built from this checkpoint of SevenNet ({problem}); it "
            "is of another version or damaged"
        ) from problem
    trained_for = about.pop(_FUNCTIONAL, None)
    modal = _chosen_modal(path, config, modal or trained_for)
    return SevennetNet(module, config, about, modal, device)


def _checked(path: Path) -> dict[str, Any]:
    """Return what ionloop wrote into a checkpoint file, if the file is one that can be used."""
    import sevenn
    import torch

    cure = "give a checkpoint (.pth) that SevenNet or ionloop wrote"
    try:
        content = torch.load(path, weights_only=False, map_location="cpu")
        version = content["config"]["version"]
        assert content["model_state_dict"]
    except Exception as problem:
        raise InputError(f"{path} is no checkpoint of SevenNet ({problem!r}); {cure}") from problem
    if _numbers(version) > _numbers(sevenn.__version__):
        raise InputError(
            f"{path} was written by SevenNet {version}, a later version than that here, "
            f"{sevenn.__version__}; install sevenn {version}, or {cure} of this version"
        )
    return dict(content.get(ABOUT, {}))


def _numbers(version: str) -> list[int]:
    """Return the first three numbers of a version."""
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def _chosen_modal(path: Path, config: Mapping[str, Any], modal: str | None) -> str | None:
    """Return the functional under the name that the model has for it."""
    known = list(config.get("_modal_map") or {}) if config.get("use_modality") else []
    if not known:
        if modal:
            raise InputError(f"train.modal: {path.name} knows no {modal}, it is of one functional")
        return None
    wanted = (modal or DEFAULT_MODAL).lower()
    for name in known:
        if name.lower() == wanted:
            return str(name)
    raise InputError(f"train.modal: {path.name} knows no {wanted}; it knows {', '.join(known)}")


def _shift_by_element(net: SevennetNet) -> None:
    """Give a model with one shift for all elements a shift for each."""
    from sevenn.nn.scale import Rescale, SpeciesWiseRescale

    scaling = net.module.rescale_atomic_energy
    if not isinstance(scaling, Rescale) or len(net.types) == 1:
        return
    net.config["shift"] = [scaling.get_shift()] * len(net.types)
    net.config["scale"] = [scaling.get_scale()] * len(net.types)
    net.module.replace_module(
        "rescale_atomic_energy",
        SpeciesWiseRescale(net.config["shift"], net.config["scale"]).to(net.device),
    )


def random_net(
    type_map: Sequence[str], network: Mapping[str, Any], scales: tuple[float, float], device: str
) -> SevennetNet:
    """Return a model with random weights, from torch's random numbers.

    Parameters
    ----------
    type_map
        Chemical symbols that it knows.
    network
        Settings ``cutoff`` in Å, ``channels``, ``lmax`` and ``layers``.
    scales
        Root mean square of the forces in eV/Å, and mean number of neighbours.
    device
        Device of torch.
    """
    import sevenn
    from ase.data import atomic_numbers
    from sevenn import _const, _keys
    from sevenn.model_build import build_E3_equivariant_model

    force_rms, n_neighbours = scales
    numbers = sorted(atomic_numbers[symbol] for symbol in set(type_map))
    config = {
        **_const.model_defaults({}),  # type: ignore[no-untyped-call]
        "version": sevenn.__version__,
        _keys.CUTOFF: network["cutoff"],
        _keys.NODE_FEATURE_MULTIPLICITY: network["channels"],
        _keys.LMAX: network["lmax"],
        _keys.NUM_CONVOLUTION: network["layers"],
        _keys.CONV_DENOMINATOR: [float(np.sqrt(n_neighbours))] * network["layers"],
        _keys.TYPE_MAP: {number: place for place, number in enumerate(numbers)},
        _keys.NUM_SPECIES: len(numbers),
        _keys.SHIFT: [0.0] * len(numbers),
        _keys.SCALE: [force_rms] * len(numbers),
    }
    return SevennetNet(build_E3_equivariant_model(config), config, {}, None, device)
