"""Frames: configurations of one composition, labelled or not."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from ionloop.schemas.packed import Array, Packed, decode_array, encode_array

GRID = 1e-6  # Å: the grid on which ids are computed and to which `snapped` rounds
_ARRAYS = ("positions", "cells", "energies", "forces", "virials")


@dataclass(frozen=True, eq=False, repr=False)
class Frames(Packed):
    """Configurations of one composition, the one in-memory type for them.

    Parameters
    ----------
    symbols
        Chemical symbols, (n,).
    positions
        Cartesian positions in Å, (f, n, 3).
    cells
        Lattice vectors as rows in Å, (f, 3, 3).
    energies
        Total energies in eV, (f,), when labelled.
    forces
        Forces in eV/Å, (f, n, 3), when labelled.
    virials
        Virials in eV, (f, 3, 3): minus stress times volume, when the labeller gives stresses.
    level
        Hash of the level of theory of the labels.
    groups
        What every frame comes from, (f,), such as a trajectory: frames of one group are too
        similar to be on both sides of training and validation. None where every frame is a group
        of its own.

    Raises
    ------
    ValueError
        If the shapes do not agree, or energies come without forces.
    """

    symbols: tuple[str, ...]
    positions: Array
    cells: Array
    energies: Array | None = None
    forces: Array | None = None
    virials: Array | None = None
    level: str | None = None
    groups: tuple[str, ...] | None = None

    header_fields: ClassVar[tuple[str, ...]] = ("formula", "species", "n_frames")

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbols", tuple(self.symbols))
        for name in _ARRAYS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        if self.groups is not None:
            object.__setattr__(self, "groups", tuple(self.groups))
        self._check_shapes()

    def _check_shapes(self) -> None:
        f, n = len(self.positions), len(self.symbols)
        shapes = {
            "positions": (f, n, 3),
            "cells": (f, 3, 3),
            "energies": (f,),
            "forces": (f, n, 3),
            "virials": (f, 3, 3),
        }
        for name, array in self._arrays().items():
            if array.shape != shapes[name]:
                raise ValueError(f"{name} has shape {array.shape}, expected {shapes[name]}")
        if (self.energies is None) != (self.forces is None):
            raise ValueError("a label has both energies and forces")
        if self.groups is not None and len(self.groups) != f:
            raise ValueError(f"{len(self.groups)} groups for {f} frames: give one each")

    def _arrays(self) -> dict[str, Array]:
        """Return the arrays that are there."""
        found = {name: getattr(self, name) for name in _ARRAYS}
        return {name: array for name, array in found.items() if array is not None}

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.positions)

    def __getitem__(self, index: Any) -> Frames:
        """Select frames by an integer, a slice, a list of integers or a boolean mask."""
        where = np.atleast_1d(np.arange(len(self))[index])
        chosen: dict[str, Any] = {name: array[where] for name, array in self._arrays().items()}
        if self.groups is not None:
            chosen["groups"] = tuple(self.groups[number] for number in where)
        return replace(self, **chosen)

    def __iter__(self) -> Iterator[Frames]:
        """Yield the frames one by one."""
        return map(self.__getitem__, range(len(self)))

    def __repr__(self) -> str:
        """Return a short description."""
        kind = f"labelled at {self.level}" if self.is_labelled else "unlabelled"
        return f"<{len(self)} Frames of {self.formula}, {kind}>"

    def __eq__(self, other: object) -> bool:
        """Compare everything exactly."""
        if not isinstance(other, Frames):
            return False
        mine, others = self._arrays(), other._arrays()
        return (
            (self.symbols, self.level, self.groups) == (other.symbols, other.level, other.groups)
            and mine.keys() == others.keys()
            and all(np.array_equal(mine[name], others[name], equal_nan=True) for name in mine)
        )

    __hash__ = None  # type: ignore[assignment]  # equality is by value and the arrays are large

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self)

    @property
    def n_atoms(self) -> int:
        """Number of atoms per frame."""
        return len(self.symbols)

    @property
    def species(self) -> list[str]:
        """Sorted chemical symbols, each once."""
        return sorted(set(self.symbols))

    @property
    def formula(self) -> str:
        """Composition of one frame in the order of appearance, such as ``Li20Ge2P4S24``."""
        return "".join(f"{symbol}{count}" for symbol, count in Counter(self.symbols).items())

    @property
    def is_labelled(self) -> bool:
        """Whether energies and forces are present."""
        return self.energies is not None

    @property
    def volumes(self) -> Array:
        """Cell volumes in Å³, (f,)."""
        volumes: Array = np.abs(np.linalg.det(self.cells))
        return volumes

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Content ids, one per frame: a hash of species, cell and positions on a 1e-6 Å grid.

        The id names the configuration and does not depend on labels; `label_id` joins it with
        the level of theory.
        """
        species = " ".join(self.symbols).encode()
        geometry = np.concatenate([self.cells, self.positions], axis=1)
        rounded = np.rint(geometry / GRID).astype("<i8")
        return tuple(
            hashlib.sha256(species + frame.tobytes()).hexdigest()[:24] for frame in rounded
        )

    @property
    def origins(self) -> tuple[str, ...]:
        """Group of every frame; its own id where it has none."""
        return self.ids if self.groups is None else self.groups

    def of_group(self, name: str) -> Frames:
        """Return the frames as members of one group."""
        return replace(self, groups=(name,) * len(self))

    def snapped(self) -> Frames:
        """Return the frames on the grid of the ids, so that a text file keeps every id."""
        decimals = round(-np.log10(GRID))
        return replace(
            self, positions=self.positions.round(decimals), cells=self.cells.round(decimals)
        )

    def unlabelled(self) -> Frames:
        """Return the configurations alone, and what they come from."""
        return Frames(self.symbols, self.positions, self.cells, groups=self.groups)

    def pack(self) -> dict[str, Any]:
        """Return symbols, level, groups and arrays as JSON values."""
        return {
            "symbols": " ".join(self.symbols),
            "level": self.level,
            "groups": self.groups and list(self.groups),
            "arrays": {name: encode_array(array) for name, array in self._arrays().items()},
        }

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Self:
        """Build frames from what `pack` returned."""
        arrays = {name: decode_array(array) for name, array in packed["arrays"].items()}
        return cls(
            symbols=tuple(packed["symbols"].split()),
            level=packed["level"],
            groups=packed.get("groups"),
            **arrays,
        )


def label_id(frame_id: str, level: str) -> str:
    """Return the id of a label.

    Parameters
    ----------
    frame_id
        Id of the frame that it belongs to.
    level
        Hash of the level of theory.
    """
    return f"{frame_id}-{level}"


def symbols_of(parts: Iterable[Frames]) -> list[str]:
    """Return the chemical symbols in the order of appearance, each once."""
    return list(dict.fromkeys(symbol for part in parts for symbol in part.symbols))


def concatenate(parts: Iterable[Frames]) -> list[Frames]:
    """Join frames of equal symbols and level, in the order of appearance.

    Labels with virials and labels without stay apart, so that no virial is lost.

    Raises
    ------
    ValueError
        If of two parts of one composition only one holds energies.
    """
    groups: dict[tuple[tuple[str, ...], str | None, bool], list[Frames]] = {}
    for part in parts:
        if len(part):
            key = (part.symbols, part.level, part.virials is not None)
            groups.setdefault(key, []).append(part)
    return [_join(group) for group in groups.values()]


def divide(frames: Iterable[Frames], ids: Collection[str]) -> tuple[list[Frames], list[Frames]]:
    """Divide frames into those with one of the ids and the others; `concatenate` joins both.

    Parameters
    ----------
    frames
        What to divide.
    ids
        Ids of the frames of the first part.
    """
    parts = [(part, np.array([i in ids for i in part.ids], dtype=bool)) for part in frames]
    return concatenate(p[mask] for p, mask in parts), concatenate(p[~mask] for p, mask in parts)


def _join(group: Sequence[Frames]) -> Frames:
    if len({part.is_labelled for part in group}) > 1:
        raise ValueError("labelled and unlabelled frames cannot be joined")
    parts = [part._arrays() for part in group]
    joined: dict[str, Any] = {
        name: np.concatenate([arrays[name] for arrays in parts]) for name in parts[0]
    }
    if any(part.groups is not None for part in group):
        joined["groups"] = tuple(origin for part in group for origin in part.origins)
    return replace(group[0], **joined)
