"""Periodic cells: distances between lattice planes, images of a cell, repeated cells."""

from __future__ import annotations

import numpy as np

from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array


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
