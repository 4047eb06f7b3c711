"""What DeePMD-kit reads: `input.json`, with the neighbour numbers in it, and the systems.

The energy bias per element is left to DeePMD-kit, which since 3.2 solves a least-squares problem
over frames and compositions and takes the solution of minimum norm where the compositions do not
determine it. Its default of 10 frames a composition is raised to `STATISTICS`, because the mean
energy of 10 thermal frames is off by tenths of an eV.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ionloop.codes.deepmd_checkpoint import Checkpoint
from ionloop.codes.deepmd_settings import DeepmdSettings
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.packed import Array

STATISTICS = 100  # frames per composition in the statistics of bias and descriptor
SEL_MARGIN = 0.12  # cells shrink in NPT runs, and a hot liquid has denser spots than any label
SAMPLED_ATOMS = 10_000  # atoms whose neighbours are counted, over all compositions
PER_TYPE = {"se_e2_a", "se_a", "se_e2_r", "se_r", "se_e3", "se_at", "se_a_3be"}
SAVES = 20  # checkpoints of a training, from which it goes on if its worker is lost
SHORTEST_SAVE = 1000  # steps that are sooner done again than a checkpoint is needed
_KINDS: tuple[Literal["energy", "force", "virial"], ...] = ("energy", "force", "virial")
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

    Of data with more than 10,000 atoms, the densest frames of every composition and as many that
    are spread evenly over it are looked at, 8 or more.
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
    """Build the `model` section, with `sel` chosen from the data where it is not given."""
    model = _model_template(settings, type_map)
    for descriptor in _open_descriptors(model):
        mixed = _is_mixed(descriptor)
        sel = choose_sel(frames, descriptor["rcut"], type_map, mixed=mixed)
        descriptor["sel"] = sel[0] if mixed else sel
    return model


class OtherNetworkError(IonloopError):
    """A training cannot start from a checkpoint; the message ends a sentence that says so."""


def continued_model(
    settings: DeepmdSettings,
    frames: Sequence[Frames],
    type_map: Sequence[str],
    earlier: Checkpoint,
) -> dict[str, Any]:
    """Return an earlier `model` section if a training can go on from it.

    Raises
    ------
    OtherNetworkError
        If the settings, the backend or the type map changed, or if an atom of the data has more
        neighbours now than the earlier `sel` has room for.
    """
    model = _model_template(settings, type_map)
    theirs = list(_descriptors(earlier.model))
    ours = list(_descriptors(model))
    to_fill = {id(descriptor) for descriptor in _open_descriptors(model)}
    for mine, other in zip(ours, theirs, strict=False):
        if id(mine) in to_fill and "sel" in other:
            if not _has_room(other, count_neighbours(frames, mine["rcut"], type_map)):
                raise OtherNetworkError(
                    "an atom has more neighbours now than it has room for (sel)"
                )
            mine["sel"] = other["sel"]
    backends = {settings.backend, earlier.backend}
    if changed := [*(["backend"] if len(backends) > 1 else []), *differing(model, earlier.model)]:
        raise OtherNetworkError(f"its network is another one ({', '.join(changed)})")
    return earlier.model


def refusal(settings: DeepmdSettings) -> str | None:
    """Return why DeePMD-kit does not take a `model` dictionary, by its own check; None if it does.

    It costs the import of DeePMD-kit's Python package.
    """
    from dargs.dargs import ArgumentError
    from deepmd.utils.argcheck import normalize

    if isinstance(settings.model, str):
        return None
    try:
        model = _model_template(settings, ["H"])
        for descriptor in _open_descriptors(model):
            descriptor["sel"] = 4 if _is_mixed(descriptor) else [4]
        normalize(input_script(settings, model, ["training"], seed=1))
    except (ArgumentError, AttributeError, TypeError, ValueError) as error:
        return " ".join(str(error).split())
    return None


def other_network(settings: DeepmdSettings, other: DeepmdSettings) -> list[str]:
    """Return the keys in which two networks differ, so that none can start from the other."""
    backend = [] if settings.backend == other.backend else ["backend"]
    return [*backend, *differing(_model_template(settings, []), _model_template(other, []))]


def differing(model: Any, other: Any, place: str = "") -> list[str]:
    """Return the places in which two `model` sections differ, in the words of the run file."""
    if not (isinstance(model, dict) and isinstance(other, dict)):
        return [] if model == other else [RUN_FILE_KEYS.get(place, place)]
    keys = sorted({*model, *other})
    found = [
        differing(model.get(key), other.get(key), f"{place}.{key}".lstrip(".")) for key in keys
    ]
    return list(dict.fromkeys(key for keys in found for key in keys))


def input_script(
    settings: DeepmdSettings,
    model: dict[str, Any],
    training: Sequence[str],
    validation: Sequence[str] = (),
    *,
    seed: int,
    virials: bool = True,
    warm: bool = False,
    replay: Replay | None = None,
) -> dict[str, Any]:
    """Build the content of `input.json`.

    Parameters
    ----------
    settings
        How to train.
    model
        The `model` section, from `model_section` or `continued_model`.
    training, validation
        Folders of the systems, relative to the folder of the training.
    seed
        Seed of the nets and of the order of the frames.
    virials
        Whether any frame has a virial.
    warm
        Whether the training continues from another one.
    replay
        Which systems the model has learned, and how often they are drawn; all frames alike
        without.
    """
    steps = training_steps(settings, warm)
    start = settings.warm_learning_rate if warm else settings.learning_rate_start
    display = min(settings.disp_every, steps)
    drawn = {} if replay is None else {"auto_prob": replay.auto_prob}
    data: dict[str, Any] = {"training_data": _data(training, settings.batch_size) | drawn}
    if validation:
        data["validation_data"] = _data(validation, 1) | {"numb_btch": 4}
    return {
        "model": _seeded(model, seed),
        "learning_rate": {
            "type": "exp",
            "start_lr": start,
            "stop_lr": settings.learning_rate_stop,
            "decay_steps": max(1, steps // 200),
        },
        "loss": _loss(settings, virials, warm),
        "training": {
            **data,
            "numb_steps": steps,
            "seed": _seed(seed),
            "disp_file": "lcurve.out",
            "disp_freq": display,
            "save_freq": display * math.ceil(max(steps / SAVES, SHORTEST_SAVE) / display),
            "max_ckpt_keep": 2,
        },
    }


@dataclass(frozen=True)
class Replay:
    """How often a warm start draws what it has learned.

    Parameters
    ----------
    n_systems
        Systems learned and new; the learned ones come first in the input.
    n_frames
        Frames learned and new.
    new_weight
        How many times as often as a learned frame a new one is drawn.
    """

    n_systems: tuple[int, int]
    n_frames: tuple[int, int]
    new_weight: float

    @property
    def share(self) -> float:
        """Fraction of the draws that learned frames get."""
        learned, new = self.n_frames
        return learned / (learned + self.new_weight * new)

    @property
    def auto_prob(self) -> str:
        """What DeePMD-kit calls it: within each block, systems are drawn by their size."""
        learned, new = self.n_systems
        return (
            f"prob_sys_size;0:{learned}:{self.share:.6f};"
            f"{learned}:{learned + new}:{1 - self.share:.6f}"
        )


def divide(frames: Sequence[Frames], learned: frozenset[str]) -> tuple[list[Frames], list[Frames]]:
    """Divide frames into those that a model has learned, by their ids, and new ones."""
    masks = [np.array([i in learned for i in part.ids], dtype=bool) for part in frames]
    pairs = list(zip(frames, masks, strict=True))
    return concatenate(p[mask] for p, mask in pairs), concatenate(p[~mask] for p, mask in pairs)


def training_steps(settings: DeepmdSettings, warm: bool) -> int:
    """Return the number of steps of a training."""
    return settings.warm_steps if warm and settings.warm_steps else settings.steps


def write_systems(frames: Sequence[Frames], folder: Path, type_map: Sequence[str]) -> list[str]:
    """Write labelled frames as `deepmd/npy` systems in double precision.

    Frames of one composition become one system, those with and those without virials apart,
    since DeePMD-kit reads a missing virial as none only if the whole system lacks it.

    Returns
    -------
    list of str
        Folders of the systems, relative to `folder`'s parent.

    Raises
    ------
    ValueError
        If a frame has no label, an element is not in the type map, or labels of two levels of
        theory are mixed.
    """
    check_labels(frames, type_map)
    with_virials = concatenate(part for part in frames if part.virials is not None)
    without = concatenate(part for part in frames if part.virials is None)
    names = []
    for number, system in enumerate([*with_virials, *without]):
        path = folder / f"{number:03d}-{system.formula[:60]}"
        _write_system(system, path, type_map)
        names.append(str(path.relative_to(folder.parent)))
    return names


def _sample(frames: Sequence[Frames]) -> Iterator[tuple[Frames, Array]]:
    for part in frames:
        wanted = max(8, SAMPLED_ATOMS // (part.n_atoms * len(frames)))
        densest = np.argsort(part.volumes)[: wanted // 2]
        spread = np.linspace(0, len(part) - 1, min(wanted - wanted // 2, len(part))).astype(int)
        if len(part):
            yield part, np.union1d(densest, spread)


def _neighbour_counts(part: Frames, index: Array, rcut: float, type_map: Sequence[str]) -> Array:
    """Return the neighbours by type of every atom of the chosen frames, (atoms, t)."""
    from ase import neighborlist

    neighbour_list: Any = neighborlist.primitive_neighbor_list
    types = type_indices(part.symbols, type_map)
    n_types = len(type_map)
    counts = []
    for frame in index:
        centres, others = neighbour_list(
            "ij", (True, True, True), part.cells[frame], part.positions[frame], rcut
        )
        kinds = centres * n_types + types[others]
        counts.append(np.bincount(kinds, minlength=part.n_atoms * n_types))
    return np.concatenate(counts).reshape(-1, n_types)


def type_indices(symbols: Sequence[str], type_map: Sequence[str]) -> Array:
    """Return the type of every atom, (n,).

    Raises
    ------
    ValueError
        If an element is not in the type map.
    """
    unknown = sorted(set(symbols) - set(type_map))
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)} is not in the type map {list(type_map)}; add it to type_map"
        )
    return np.array([list(type_map).index(symbol) for symbol in symbols])


def _has_room(descriptor: dict[str, Any], counts: Neighbours) -> bool:
    if _is_mixed(descriptor):
        return bool(descriptor["sel"] >= counts.total)
    return all(room >= n for room, n in zip(descriptor["sel"], counts.by_type, strict=True))


def _is_mixed(descriptor: dict[str, Any]) -> bool:
    return descriptor["type"] in ALL_TYPES


def _model_template(settings: DeepmdSettings, type_map: Sequence[str]) -> dict[str, Any]:
    given = copy.deepcopy(settings.model) if isinstance(settings.model, dict) else None
    model = given or _standard_model(settings)
    model["type_map"] = list(type_map)
    model.setdefault("data_stat_nbatch", STATISTICS)
    for descriptor in _open_descriptors(model):
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


def _descriptors(model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    # What is no dictionary is DeePMD-kit's to refuse (`refusal`).
    top = model.get("descriptor", {})
    if isinstance(top, dict):
        parts = top.get("list", []) if top.get("type") == "hybrid" else [top]
        yield from (part for part in parts if isinstance(part, dict))


def _open_descriptors(model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the descriptors whose `sel` is left to us."""
    for descriptor in _descriptors(model):
        known = descriptor.get("type") in PER_TYPE | ALL_TYPES
        if known and isinstance(descriptor.get("sel", "auto"), str):
            yield descriptor


def _seeded(model: dict[str, Any], seed: int) -> dict[str, Any]:
    # Also where the given dictionary has seeds: equal seeds would make an ensemble of one model.
    seeded = copy.deepcopy(model)
    nets = [*_descriptors(seeded), seeded.get("fitting_net"), seeded.get("type_embedding")]
    for net in nets:
        if net:
            net["seed"] = _seed(seed)
    return seeded


def _seed(seed: int) -> int:
    return seed % 2**31


def _data(systems: Sequence[str], batch_size: int | str) -> dict[str, Any]:
    return {"systems": list(systems), "batch_size": batch_size}


def _loss(settings: DeepmdSettings, virials: bool, warm: bool) -> dict[str, Any]:
    prefactors = {kind[0]: settings.prefactors(kind, warm) for kind in _KINDS}
    if not virials:
        prefactors["v"] = (0.0, 0.0)
    loss: dict[str, Any] = {"type": "ener"}
    for letter, (start, limit) in prefactors.items():
        loss |= {f"start_pref_{letter}": start, f"limit_pref_{letter}": limit}
    return loss


def check_labels(frames: Sequence[Frames], type_map: Sequence[str]) -> None:
    """Raise a ValueError if frames cannot be trained on together; see `write_systems`."""
    for part in frames:
        type_indices(part.symbols, type_map)
        if not part.is_labelled:
            raise ValueError(f"{part!r} cannot be trained on; label it first")
    levels = {part.level for part in frames}
    if len(levels) > 1:
        raise ValueError(f"labels of {len(levels)} levels of theory cannot be trained on together")


def _write_system(system: Frames, folder: Path, type_map: Sequence[str]) -> None:
    (folder / "set.000").mkdir(parents=True)
    types = type_indices(system.symbols, type_map)
    np.savetxt(folder / "type.raw", types, fmt="%d")
    (folder / "type_map.raw").write_text("\n".join(type_map) + "\n")
    arrays = {
        "coord": system.positions,
        "box": system.cells,
        "energy": system.energies,
        "force": system.forces,
        "virial": system.virials,
    }
    for name, array in arrays.items():
        if array is not None:
            np.save(folder / "set.000" / f"{name}.npy", array.reshape(len(system), -1))
