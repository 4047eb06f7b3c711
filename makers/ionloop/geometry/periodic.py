"""Periodic cells: fractional coordinates, nearest images, heights of cells, supercells."""

from __future__ import annotations

import numpy as np

from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array


def fractional(positions: Array, cells: Array) -> Array:
    """Return positions, or differences of positions, in units of the lattice vectors.

    Parameters
    ----------
    positions
        Cartesian vectors in Å, (..., n, 3).
    cells
        Lattice vectors as rows in Å, (..., 3, 3).

    Returns
    -------
    Array
        Fractional vectors, (..., n, 3).
    """
    result: Array = positions @ np.linalg.inv(cells)
    return result


def nearest_image(steps: Array) -> Array:
    """Take whole lattice vectors off fractional steps, so that each component is in [-1/2, 1/2].

    The result is the shortest image in a rectangular cell. In a skewed cell another image can be
    shorter, but only where the step is longer than half the smallest height of the cell.
    """
    nearest: Array = steps - np.rint(steps)
    return nearest


def without_drift(steps: Array, cells: Array) -> Array:
    """Return the shortest displacements of atoms, their common shift taken off.

    Parameters
    ----------
    steps
        Displacements in units of the lattice vectors, (f, n, 3).
    cells
        Lattice vectors as rows in Å, (3, 3) or (f, 3, 3).

    Returns
    -------
    Array
        Cartesian displacements in Å, (f, n, 3).
    """
    moves = nearest_image(steps) @ cells
    relative: Array = moves - moves.mean(axis=1, keepdims=True)
    return relative


def rms(vectors: Array) -> Array:
    """Return the root mean squares of vectors (f, n, 3) over atoms and components, (f,)."""
    size: Array = np.sqrt(np.mean(vectors**2, axis=(1, 2)))
    return size


def heights(cells: Array) -> Array:
    """Return the perpendicular heights of cells, 0 where they are flat.

    The height along an axis is the volume over the area that the other two axes span.

    Parameters
    ----------
    cells
        Lattice vectors as rows in Å, (f, 3, 3).

    Returns
    -------
    Array
        Heights along a, b and c in Å, (f, 3).
    """
    spans = np.cross(cells[:, [1, 2, 0]], cells[:, [2, 0, 1]])
    areas = np.linalg.norm(spans, axis=-1)
    volumes = np.abs(np.einsum("fi,fi->f", cells[:, 0], spans[:, 0]))[:, None]
    result: Array = np.divide(volumes, areas, out=np.zeros_like(areas), where=areas > 0)
    return result


def supercell(frames: Frames, repetitions: tuple[int, int, int]) -> Frames:
    """Repeat every frame along its lattice vectors; labels are dropped.

    The images of one atom follow each other, so that blocks of one species stay together.

    Parameters
    ----------
    frames
        Frames of n atoms.
    repetitions
        Repetitions along a, b and c.

    Returns
    -------
    Frames
        Frames of n · na · nb · nc atoms.

    Raises
    ------
    ValueError
        If a repetition is below 1.
    """
    if min(repetitions) < 1:
        raise ValueError(f"repetitions are 1 or more along every vector, got {repetitions}")
    shifts = np.array(list(np.ndindex(*repetitions)), dtype=float)
    origins = np.einsum("sk,fkx->fsx", shifts, frames.cells)
    positions = frames.positions[:, :, None, :] + origins[:, None, :, :]
    return Frames(
        symbols=tuple(np.repeat(frames.symbols, len(shifts)).tolist()),
        positions=positions.reshape(len(frames), -1, 3),
        cells=frames.cells * np.array(repetitions, dtype=float)[:, None],
    )
