"""The neighbour search: distances between atoms and all their images, for many frames at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ionloop.geometry.periodic import heights
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array

_CHUNK = 100_000  # pairs handled at once, from both sides: a few MB, which fit into the cache

_BOXES = 50  # along the longest lattice vector, at most
_BOX = 2.5  # Å: with fewer atoms in a box, going through the boxes takes most of the time

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

    pymatgen's search sorts the atoms into boxes, so that the time is linear in their number.

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
    within_sphere = 1 + 4 / 3 * np.pi * cutoff**3 * frames.n_atoms / frames.volumes
    size = max(1, int(_CHUNK / (frames.n_atoms * within_sphere.max(initial=1))))
    for start in range(0, len(frames), size):
        chunk = slice(start, min(start + size, len(frames)))
        yield Neighbours(chunk, *_within(frames[chunk], cutoff))


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
    ones, others = np.triu_indices(len(species))
    table = np.empty((len(species), len(species)), dtype=int)
    table[ones, others] = table[others, ones] = np.arange(len(ones))
    atoms = np.searchsorted(species, frames.symbols)
    names = [f"{species[one]}-{species[other]}" for one, other in zip(ones, others, strict=True)]
    return table[atoms[:, None], atoms], names


def _within(frames: Frames, cutoff: float) -> tuple[Array, Array, Array, Array]:
    """Return frame, first and second atom and distance of the pairs within the cutoff."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    periodic = np.ones(3, dtype=np.int64)
    positions, cells = map(np.ascontiguousarray, (frames.positions, frames.cells))
    found = [
        find_points_in_spheres(atoms, atoms, cutoff, periodic, cell, min_r=_box_size(cell))
        for atoms, cell in zip(positions, cells, strict=True)
    ]
    frame = np.repeat(np.arange(len(found)), [len(first) for first, *_ in found])
    first, second, shifts, distance = map(np.concatenate, zip(*found, strict=True))
    itself = (first == second) & ~shifts.any(axis=1)
    # The search lists every pair from both sides, and allows the cutoff a tolerance.
    near = (first <= second) & (distance <= cutoff) & ~itself
    return frame[near], first[near], second[near], distance[near]


def _box_size(cell: Array) -> float:
    """Return the size in Å of the boxes that atoms are sorted into.

    A cell that has exploded, or was given in wrong units, would have more boxes than memory holds.
    """
    return max(_BOX, float(np.linalg.norm(cell, axis=1).max()) / _BOXES)
