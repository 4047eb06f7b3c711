"""The network of a model: its section, and the neighbours that it makes room for."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ionloop.codes.deepmd.data import type_indices
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.geometry.neighbours import neighbours
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array

STATISTICS = 100  # frames per composition in the statistics of bias and descriptor

SEL_MARGIN = 0.12  # cells shrink in NPT runs, and a hot liquid has denser spots than any label

SAMPLED_ATOMS = 10_000  # atoms whose neighbours are counted, over all compositions

PER_TYPE = {"se_e2_a", "se_a", "se_e2_r", "se_r", "se_e3", "se_at", "se_a_3be"}

RUN_FILE_KEYS = {
    "descriptor.type": "model",
    "descriptor.rcut": "rcut",
    "descriptor.rcut_smth": "rcut_smth",
    "descriptor.neuron": "neurons",
    "descriptor.axis_neuron": "axis_neurons",
    "descriptor.activation_function": "activation",
    "descriptor.precision": "precision",
    "fitting_net.neuron": "fitting",
    "fitting_net.activation_function": "activation",
    "fitting_net.precision": "precision",
}

ALL_TYPES = {"se_atten", "se_atten_v2", "dpa1"}  # one `sel` for the neighbours of every type


@dataclass(frozen=True)
class Neighbours:
    """Largest numbers of neighbours that any atom has.

    Parameters
    ----------
    by_type
        Neighbours of each type in the type map, (t,).
    total
        Neighbours of all types together.
    """

    by_type: list[int]
    total: int


def count_neighbours(frames: Sequence[Frames], rcut: float, type_map: Sequence[str]) -> Neighbours:
    """Count the neighbours within `rcut` (Å) of the most crowded atoms.

    Of data with more than 10,000 atoms, only a sample of 8 frames or more is looked at: half of it
    the densest frames of every composition, half of it spread evenly over them.

    Parameters
    ----------
    frames
        The data.
    rcut
        Cut-off radius in Å.
    type_map
        Chemical symbols in the order of the types.
    """
    counts = [_neighbour_counts(part, index, rcut, type_map) for part, index in _sample(frames)]
    table = np.concatenate([np.zeros((1, len(type_map)), dtype=int), *counts])
    return Neighbours(table.max(axis=0).tolist(), int(table.sum(axis=1).max()))


def choose_sel(
    frames: Sequence[Frames], rcut: float, type_map: Sequence[str], *, mixed: bool = False
) -> list[int]:
    """Choose `sel`, the number of neighbours that a descriptor has room for.

    Parameters
    ----------
    frames
        The data.
    rcut
        Cut-off radius in Å.
    type_map
        Chemical symbols in the order of the types.
    mixed
        One number for the neighbours of all types together, as `se_atten` takes it.

    Returns
    -------
    list of int
        Per type (or the one number): the largest number in the data, 12 % added, rounded up to a
        multiple of 4.
    """
    counts = count_neighbours(frames, rcut, type_map)
    numbers = [counts.total] if mixed else counts.by_type
    return [max(4, 4 * math.ceil(number * (1 + SEL_MARGIN) / 4)) for number in numbers]


def model_section(
    settings: DeepmdSettings, frames: Sequence[Frames], type_map: Sequence[str]
) -> dict[str, Any]:
    """Build the `model` section, with `sel` chosen from the data where it is not given.

    Parameters
    ----------
    settings
        How to train.
    frames
        What to train on.
    type_map
        Chemical symbols in the order of the types.
    """
    model = model_template(settings, type_map)
    for descriptor in open_descriptors(model):
        mixed = is_mixed(descriptor)
        sel = choose_sel(frames, descriptor["rcut"], type_map, mixed=mixed)
        descriptor["sel"] = sel[0] if mixed else sel
    return model


def _sample(frames: Sequence[Frames]) -> Iterator[tuple[Frames, Array]]:
    for part in frames:
        wanted = max(8, SAMPLED_ATOMS // (part.n_atoms * len(frames)))
        densest = np.argsort(part.volumes)[: wanted // 2]
        spread = np.linspace(0, len(part) - 1, min(wanted - wanted // 2, len(part))).astype(int)
        if len(part):
            yield part, np.union1d(densest, spread)


def _neighbour_counts(part: Frames, index: Array, rcut: float, type_map: Sequence[str]) -> Array:
    """Return the neighbours by type of every atom of the chosen frames, (atoms, t)."""
    types = type_indices(part.symbols, type_map)
    n_types, n_atoms = len(type_map), part.n_atoms
    counts = []
    for found in neighbours(part[index], rcut):
        n_frames = found.frames.stop - found.frames.start
        near = found.distance < rcut
        first, second = found.first[near], found.second[near]
        offset = found.frame[near] * n_atoms
        # A pair of two atoms is listed once, an atom and its own image in both directions.
        both = first != second
        centres = np.concatenate([offset + first, (offset + second)[both]])
        others = np.concatenate([second, first[both]])
        kinds = centres * n_types + types[others]
        counts.append(np.bincount(kinds, minlength=n_frames * n_atoms * n_types))
    return np.concatenate(counts).reshape(-1, n_types)


def has_room(descriptor: dict[str, Any], counts: Neighbours) -> bool:
    """Tell whether the `sel` of a descriptor is large enough for the neighbours in data.

    Parameters
    ----------
    descriptor
        The descriptor, `sel` included.
    counts
        Neighbours of the most crowded atoms.
    """
    if is_mixed(descriptor):
        return bool(descriptor["sel"] >= counts.total)
    return all(room >= n for room, n in zip(descriptor["sel"], counts.by_type, strict=True))


def is_mixed(descriptor: dict[str, Any]) -> bool:
    """Tell whether a descriptor has one `sel` for the neighbours of all types."""
    return descriptor["type"] in ALL_TYPES


def model_template(settings: DeepmdSettings, type_map: Sequence[str]) -> dict[str, Any]:
    """Build the `model` section without the `sel` that depend on the data.

    Parameters
    ----------
    settings
        How to train.
    type_map
        Chemical symbols in the order of the types.
    """
    given = copy.deepcopy(settings.model) if isinstance(settings.model, dict) else None
    model = given or _standard_model(settings)
    model["type_map"] = list(type_map)
    model.setdefault("data_stat_nbatch", STATISTICS)
    for descriptor in open_descriptors(model):
        descriptor.pop("sel", None)
        descriptor.setdefault("rcut", 6.0)
    return model


def _standard_model(settings: DeepmdSettings) -> dict[str, Any]:
    net = {"activation_function": settings.activation, "precision": settings.precision}
    descriptor = {
        "type": settings.model,
        "rcut": settings.rcut,
        "rcut_smth": settings.rcut_smth,
        "neuron": settings.neurons,
        "axis_neuron": settings.axis_neurons,
        **net,
    }
    return {"descriptor": descriptor, "fitting_net": {"neuron": settings.fitting, **net}}


def descriptors(model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the descriptors of a model: one, or the parts of a hybrid one."""
    # What is not a dictionary is left for DeePMD-kit to refuse (`refusal`).
    top = model.get("descriptor", {})
    if isinstance(top, dict):
        parts = top.get("list", []) if top.get("type") == "hybrid" else [top]
        yield from (part for part in parts if isinstance(part, dict))


def open_descriptors(model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the descriptors whose `sel` is to be chosen from the data."""
    return filter(is_open, descriptors(model))


def is_open(descriptor: dict[str, Any]) -> bool:
    """Tell whether the `sel` of a descriptor is to be chosen from the data."""
    known = descriptor.get("type") in PER_TYPE | ALL_TYPES
    return known and isinstance(descriptor.get("sel", "auto"), str)


def with_seeds(model: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return a `model` section in which every net has the seed.

    Parameters
    ----------
    model
        The section; its own seeds are replaced, since with equal seeds all models of an ensemble
        would be the same.
    seed
        The seed.
    """
    seeded = copy.deepcopy(model)
    nets = [*descriptors(seeded), seeded.get("fitting_net"), seeded.get("type_embedding")]
    for net in nets:
        if net:
            net["seed"] = valid_seed(seed)
    return seeded


def valid_seed(seed: int) -> int:
    """Return a seed in the range that DeePMD-kit accepts."""
    return seed % 2**31
