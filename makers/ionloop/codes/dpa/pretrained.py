"""Checkpoints of DeePMD-kit's backend for PyTorch, from which DPA models are fine-tuned.

A checkpoint holds the `model` section of its input and the weights, of one model or of several
branches that share a descriptor. Here it is read as a single model, its branch chosen.
"""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes.deepmd.network import PER_TYPE, descriptors
from ionloop.schemas.errors import InputError, MissingFileError
from ionloop.schemas.potential import Base, StoredFile

if TYPE_CHECKING:
    from torch import Tensor

ABOUT = "ionloop"
"""Key of a checkpoint under which stands what it was fine-tuned from."""

EXTRA = "_extra_state"

RANDOM = "RANDOM"
"""Name of the branch that keeps the descriptor of the base and begins with a new fitting net."""

DPA4 = ("sezm", "dpa4")
"""Names of DPA-4 in DeePMD-kit, in small letters."""

_LAYER = re.compile(r".*\.fitting_net\..*\.(?:layers\.(\d+)|output_layer)\.matrix")

UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, UserWarning)


@dataclass(frozen=True)
class Pretrained:
    """One model, with all elements that it knows.

    Parameters
    ----------
    base
        The file that it comes from, or was fine-tuned from.
    branch
        Branch of the base.
    params
        Its `model` section.
    state
        Its weights, by DeePMD-kit's names in a training of one model.
    """

    base: Base
    branch: str | None
    params: dict[str, Any]
    state: dict[str, Tensor]

    @property
    def type_map(self) -> list[str]:
        """Chemical symbols in the order of the types."""
        return list(self.params["type_map"])

    @property
    def is_dpa4(self) -> bool:
        """Whether it is a DPA-4, which is also called SeZM."""
        kinds = (self.params.get("type"), self.params.get("descriptor", {}).get("type"))
        return any(str(kind).lower() in DPA4 for kind in kinds)

    def content(self) -> dict[str, Any]:
        """Return the content of a checkpoint file."""
        extra = {"model_params": self.params, "train_infos": {"lr": 0.0, "step": 0}}
        about = {**self.base.model_dump(), "branch": self.branch}
        return {"model": {**self.state, EXTRA: extra}, ABOUT: about}

    def write(self, path: Path) -> None:
        """Write a checkpoint file, in one move.

        Parameters
        ----------
        path
            The file.
        """
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(self.packed(path.name).content)
        part.replace(path)

    def packed(self, name: str) -> StoredFile:
        """Return the checkpoint as a file that can be stored.

        Parameters
        ----------
        name
            Name of the file.
        """
        import torch

        buffer = io.BytesIO()
        torch.save(self.content(), buffer)
        return StoredFile(name, buffer.getvalue())

    def with_changed_readout(self, fraction: float, seed: int) -> Pretrained:
        """Return the model with the last layer of its fitting net changed at random.

        Parameters
        ----------
        fraction
            Size of the change, as a fraction of the standard deviation of the weights.
        seed
            Seed of the change.

        Raises
        ------
        InputError
            If the last layer cannot be found.
        """
        import torch

        names = list(_readout(self.state))
        if not names:
            raise InputError(
                "train.readout_noise: the last layer of the base's fitting net was not found; set "
                "it to 0"
            )
        changed = dict(self.state)
        for name in names:
            # DeePMD-kit lists a weight twice, under two names: both get the same change.
            weights = self.state[name]
            noise = np.random.default_rng([seed, 0]).standard_normal(tuple(weights.shape))
            scale = fraction * float(weights.std(correction=0))
            changed[name] = weights + scale * torch.tensor(noise).to(weights)
        return replace(self, state=changed)


def _readout(state: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the weights of the last layer of the fitting net."""
    found = [match for name in state if (match := _LAYER.fullmatch(name))]
    places = [float(match[1] or "inf") for match in found]  # DPA-4 gives the last no number
    last = max(places, default=0.0)
    yield from (match[0] for match, place in zip(found, places, strict=True) if place == last)


def read_base(path: Path, branch: str | None) -> Pretrained:
    """Read a pre-trained model.

    Parameters
    ----------
    path
        Checkpoint file.
    branch
        Branch of a model with several, or its alias; RANDOM: the first, whose fitting net is not
        used.

    Raises
    ------
    InputError
        If it is no checkpoint of a DPA model, or has no such branch.
    MissingFileError
        If there is no such file.
    """
    if not path.is_file():
        raise MissingFileError(
            f"train.base: there is no file {path}; nothing is downloaded, so put the checkpoint "
            "(.pt) of a DPA model there"
        )
    state = _weights(path)
    name, params = choose_branch(state[EXTRA]["model_params"], branch, path)
    prefix = f"model.{name or 'Default'}."
    own = {
        f"model.Default.{key.removeprefix(prefix)}": value
        for key, value in state.items()
        if key.startswith(prefix)
    }
    with path.open("rb") as file:
        base = Base(name=path.name, sha256=hashlib.file_digest(file, "sha256").hexdigest())
    read = Pretrained(base, RANDOM if branch == RANDOM else name, copy.deepcopy(params), own)
    _check_descriptors(read, path)
    return read


def read_trained(path: Path) -> Pretrained:
    """Read what a training of one model left, or `Pretrained.write` wrote.

    Parameters
    ----------
    path
        Checkpoint file; where it does not say what it was fine-tuned from, the base has no hash.
    """
    content = _load(path)
    state = content["model"]
    extra = state.pop(EXTRA)
    about = content.get(ABOUT, {"name": "", "sha256": "", "branch": None})
    base = Base(name=about["name"], sha256=about["sha256"])
    return Pretrained(base, about["branch"], extra["model_params"], dict(state))


def choose_branch(
    params: Mapping[str, Any], branch: str | None, path: Path
) -> tuple[str | None, dict[str, Any]]:
    """Return the name of a branch, None in a model without branches, and its `model` section.

    Parameters
    ----------
    params
        The `model` section of a checkpoint.
    branch
        Its name or an alias, in capitals or not; RANDOM: the first branch.
    path
        Name of the file, for the message.

    Raises
    ------
    InputError
        If a branch is needed and not given, or is not there.
    """
    branches = params.get("model_dict")
    if branches is None:
        if branch not in (None, RANDOM, "Default"):
            raise InputError(
                f"train.branch: {path} has no branches, so {branch} is not one of them; leave "
                f"train.branch out, or set it to {RANDOM} for a new fitting net"
            )
        return None, dict(params)
    if branch == RANDOM:
        branch = next(iter(branches))
    for name, section in branches.items():
        names = [name, *section.get("model_branch_alias", [])]
        if branch is not None and branch.lower() in map(str.lower, names):
            return name, section
    asked = f"{branch} is not among the branches of" if branch else "choose one of the branches of"
    raise InputError(
        f"train.branch: {asked} {path}: {', '.join(branches)}; that one is best whose labels are "
        f"most like yours; {RANDOM} takes the descriptor with a new fitting net"
    )


def check_elements(known: Collection[str], wanted: Sequence[str], base: str) -> None:
    """Check that a base knows all elements.

    Parameters
    ----------
    known
        Chemical symbols in its type map.
    wanted
        Chemical symbols of the run.
    base
        Name of the base, for the message.

    Raises
    ------
    InputError
        If one is missing.
    """
    if missing := [symbol for symbol in dict.fromkeys(wanted) if symbol not in known]:
        raise InputError(
            f"train.base: {base} does not know {', '.join(missing)}; it knows "
            f"{len(known)} elements ({', '.join(known)}); choose a base that knows them"
        )


def check_lora(read: Pretrained, rank: int | None) -> None:
    """Check that low-rank changes, if asked for, are possible.

    Parameters
    ----------
    read
        The base.
    rank
        Rank of the changes; None for none.

    Raises
    ------
    InputError
        If the base is no DPA-4.
    """
    if rank and not read.is_dpa4:
        raise InputError(
            f"train.lora: DeePMD-kit has it for DPA-4 only, and {read.base.name} is none; leave it "
            "out, or set train.freeze to descriptor to train fewer weights"
        )


def _check_descriptors(read: Pretrained, path: Path) -> None:
    kinds = {str(each.get("type", "se_e2_a")) for each in descriptors(read.params)}
    if bound := sorted(kinds & PER_TYPE):
        raise InputError(
            f"train.base: {path} has the descriptor {', '.join(bound)}, whose nets belong to its "
            "own elements; fine-tuning needs a DPA model (dpa1, dpa2, dpa3, dpa4); to continue "
            "from your own model use code: deepmd with warm_steps"
        )


def _weights(path: Path) -> dict[str, Any]:
    content = _load(path)
    state = content.get("model", content) if isinstance(content, dict) else None
    extra = state.get(EXTRA) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not isinstance(extra, dict) or "model_params" not in extra:
        raise InputError(
            f"train.base: {path} is a file of torch, but no checkpoint of DeePMD-kit's backend for "
            "PyTorch, which holds model_params; give the .pt file of a DPA model"
        )
    return state


def _load(path: Path) -> Any:
    import torch

    cure = "give the checkpoint (.pt) of a DPA model"
    if path.suffix in {".pth", ".pt2"}:
        raise InputError(f"train.base: {path} is frozen and cannot be trained any more; {cure}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"train.base: {path} cannot be read as a checkpoint of torch ({said}); {cure}"
        ) from None
