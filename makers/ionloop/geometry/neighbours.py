"""The neighbour search: distances between atoms and all their images, for many frames at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from ionloop.geometry.periodic import fractional, heights, nearest_image
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array

_CHUNK = 100_000  # pairs of images handled at once: a few MB, which fit into the cache

_FLAT = 0.5  # Å: no material has a thinner cell, and it would have too many images


@dataclass(frozen=True)
class Neighbours:
    """Pairs of atoms within a cutoff, each unordered pair of images once.

    Parameters
    ----------
    frames
        The frames of the chunk, as a slice of all.
    frame
        Index of the frame within the chunk, (e,).
    first, second
        Indices of the atoms, (e,), ``first <= second``. An atom and its own image appear twice,
        once in each direction, so that their weight in a sum over pairs is one half.
    distance
        Distance in Å, (e,).
    """

    frames: slice
    frame: Array
    first: Array
    second: Array
    distance: Array

    @property
    def weight(self) -> Array:
        """Weight of every entry in a sum over unordered pairs, (e,)."""
        return np.where(self.first == self.second, 0.5, 1.0)


def neighbours(frames: Frames, cutoff: float) -> Iterator[Neighbours]:
    """Find all pairs within a cutoff, in any cell, however small or skewed.

    A pair is followed axis by axis: with its fractional separation s in [-1/2, 1/2] and the
    height h of the cell along an axis, only the lattice shifts n with ``|s + n| h <= cutoff``
    can bring it within reach.

    Parameters
    ----------
    frames
        f frames of n atoms, finite, with cells of non-zero volume.
    cutoff
        Largest distance in Å.

    Yields
    ------
    Neighbours
        The pairs of a chunk of consecutive frames; every frame lies in one chunk.

    Raises
    ------
    ValueError
        If a frame is not finite or its cell has no volume.
    """
    if not np.all(measurable(frames)):
        raise ValueError("distances need finite positions and cells of non-zero volume")
    pairs = np.triu_indices(frames.n_atoms)
    images = np.maximum(2 * cutoff / heights(frames.cells), 1).prod(axis=-1)
    size = max(1, int(_CHUNK / (len(pairs[0]) * images.max(initial=1))))
    for start in range(0, len(frames), size):
        chunk = slice(start, min(start + size, len(frames)))
        yield Neighbours(chunk, *_within(frames[chunk], pairs, cutoff))


def measurable(frames: Frames) -> Array:
    """Tell whether distances are defined: all finite, and a cell of non-zero volume, (f,)."""
    result = finite(frames)
    result[result] = heights(frames.cells[result]).min(axis=-1) > _FLAT
    return result


def finite(frames: Frames) -> Array:
    """Tell which frames have finite cells and positions, (f,)."""
    everything = np.concatenate([frames.cells, frames.positions], axis=1)
    result: Array = np.isfinite(everything).all(axis=(1, 2))
    return result


def pair_kinds(frames: Frames) -> tuple[Array, list[str]]:
    """Number the pairs of species.

    Returns
    -------
    kinds
        Number of the species pair for every pair of atoms, (n, n).
    names
        The pairs in alphabetical order, such as ``["Li-Li", "Li-S", "S-S"]``.
    """
    species = frames.species
    pairs = list(combinations_with_replacement(range(len(species)), 2))
    table = np.empty((len(species), len(species)), dtype=int)
    for number, (one, other) in enumerate(pairs):
        table[one, other] = table[other, one] = number
    atoms = np.searchsorted(species, frames.symbols)
    names = [f"{species[one]}-{species[other]}" for one, other in pairs]
    return table[atoms[:, None], atoms], names


def _within(
    frames: Frames, pairs: tuple[Array, Array], cutoff: float
) -> tuple[Array, Array, Array, Array]:
    """Return frame, first and second atom and distance of the pairs within the cutoff."""
    scaled = fractional(frames.positions, frames.cells)
    frame = np.repeat(np.arange(len(frames)), len(pairs[0]))
    first, second = (np.tile(atoms, len(frames)) for atoms in pairs)
    separation = np.empty((len(frame), 0))
    for axis, reach in enumerate((cutoff / heights(frames.cells)).T):
        along = scaled[:, :, axis]
        step = along[frame, second] - along[frame, first]
        entry, shifted = _shifts(nearest_image(step), reach[frame])
        frame, first, second = frame[entry], first[entry], second[entry]
        separation = np.column_stack([separation[entry], shifted])
    distance = np.linalg.norm(np.einsum("ei,eij->ej", separation, frames.cells[frame]), axis=1)
    itself = (first == second) & ~separation.any(axis=1)
    near = (distance <= cutoff) & ~itself
    return frame[near], first[near], second[near], distance[near]


def _shifts(step: Array, reach: Array) -> tuple[Array, Array]:
    """Return entry and shifted separation for all lattice shifts along an axis within reach."""
    largest = int(np.max(reach, initial=0.0) + 0.5)
    shifts = np.arange(-largest, largest + 1)
    kept = [np.flatnonzero(np.abs(step + shift) <= reach) for shift in shifts]
    shifted = [step[entry] + shift for entry, shift in zip(kept, shifts, strict=True)]
    return np.concatenate(kept), np.concatenate(shifted)
