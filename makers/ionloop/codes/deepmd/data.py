"""Training data as DeePMD-kit reads them, and how often their frames are drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ionloop.schemas.frames import Frames, concatenate, divide
from ionloop.schemas.packed import Array

ByWeight: TypeAlias = Mapping[float, Sequence[Frames]]
"""Frames by their weight: how many times as often as a frame of weight 1 they are drawn."""


@dataclass(frozen=True)
class Block:
    """Systems that follow one another in the input and whose frames are drawn equally often.

    Parameters
    ----------
    n_systems, n_frames
        Their number, and that of their frames.
    weight
        How many times as often as a frame of weight 1 one of these is drawn.
    """

    n_systems: int
    n_frames: int
    weight: float


def auto_prob(blocks: Sequence[Block]) -> str:
    """Return DeePMD-kit's key of this name: within each block, systems are drawn by their size."""
    words, first = ["prob_sys_size"], 0
    total = sum(block.weight * block.n_frames for block in blocks)
    for block in blocks:
        share = block.weight * block.n_frames / total
        words.append(f"{first}:{first + block.n_systems}:{share:.6f}")
        first += block.n_systems
    return ";".join(words)


@dataclass(frozen=True)
class Systems:
    """The systems of one training.

    Parameters
    ----------
    training, validation
        Folders, relative to the folder of the training.
    has_virials
        Whether any frame to train on has a virial.
    blocks
        How often the frames of which systems are drawn; if there is none, all equally often.
    """

    training: Sequence[str]
    validation: Sequence[str] = ()
    has_virials: bool = True
    blocks: Sequence[Block] = ()


def write_blocks(
    groups: ByWeight,
    learned: Collection[str],
    new_weight: float,
    folder: Path,
    type_map: Sequence[str],
) -> tuple[list[str], list[Block]]:
    """Write frames to train on, those that are drawn equally often next to each other.

    Parameters
    ----------
    groups
        Labelled frames by their weight.
    learned
        Ids of the frames that the model to start from has learned; they come first, in the folder
        ``replay``, the others in ``training``.
    new_weight
        How many times as often as learned frames the others are drawn.
    folder
        Folder of the training.
    type_map
        Chemical symbols in the order of the types.

    Returns
    -------
    tuple
        Folders of the systems, relative to `folder`, and the blocks that they form.
    """
    divided = {weight: divide(parts, learned) for weight, parts in groups.items()}
    names: list[str] = []
    blocks = []
    for place, name, factor in ((0, "replay", 1.0), (1, "training", new_weight)):
        for weight, parts in divided.items():
            if alike := parts[place]:
                systems = write_systems(alike, folder / name, type_map, first=len(names))
                blocks.append(Block(len(systems), sum(map(len, alike)), factor * weight))
                names += systems
    return names, blocks


def write_systems(
    frames: Sequence[Frames], folder: Path, type_map: Sequence[str], first: int = 0
) -> list[str]:
    """Write labelled frames as `deepmd/npy` systems in double precision.

    Frames of one composition become one system, but those with virials another one than those
    without, since DeePMD-kit notices a missing virial only if the whole system lacks it.

    Parameters
    ----------
    frames
        Labelled frames.
    folder
        Where the systems are written.
    type_map
        Chemical symbols in the order of the types.
    first
        Number of the first system.

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
    systems = sorted(concatenate(frames), key=lambda system: system.virials is None)
    names = []
    for number, system in enumerate(systems, first):
        path = folder / f"{number:03d}-{system.formula[:60]}"
        _write_system(system, path, type_map)
        names.append(str(path.relative_to(folder.parent)))
    return names


def type_indices(symbols: Sequence[str], type_map: Sequence[str]) -> Array:
    """Return the type of every atom, (n,).

    Parameters
    ----------
    symbols
        Chemical symbols of the n atoms.
    type_map
        Chemical symbols in the order of the types.

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


def check_labels(frames: Sequence[Frames], type_map: Sequence[str]) -> None:
    """Check that frames can be trained on together.

    Parameters
    ----------
    frames
        The frames.
    type_map
        Chemical symbols in the order of the types.

    Raises
    ------
    ValueError
        As `write_systems` does.
    """
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
