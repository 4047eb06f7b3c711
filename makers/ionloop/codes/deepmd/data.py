"""Training data as DeePMD-kit reads them, and how often new frames are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.packed import Array


@dataclass(frozen=True)
class Replay:
    """How often a warm start draws frames that it has learned before.

    Parameters
    ----------
    n_systems
        Numbers of learned and new systems; the learned ones come first in the input.
    n_frames
        Numbers of learned and new frames.
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
        """DeePMD-kit's key of this name: within each block, systems are drawn by their size."""
        learned, new = self.n_systems
        return (
            f"prob_sys_size;0:{learned}:{self.share:.6f};"
            f"{learned}:{learned + new}:{1 - self.share:.6f}"
        )


@dataclass(frozen=True)
class Systems:
    """The systems of one training.

    Parameters
    ----------
    training, validation
        Folders, relative to the folder of the training.
    has_virials
        Whether any frame to train on has a virial.
    replay
        Which systems a warm start has learned before, and how often they are drawn; if None, all
        frames are drawn equally often.
    """

    training: Sequence[str]
    validation: Sequence[str] = ()
    has_virials: bool = True
    replay: Replay | None = None


def write_systems(frames: Sequence[Frames], folder: Path, type_map: Sequence[str]) -> list[str]:
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
    for number, system in enumerate(systems):
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
