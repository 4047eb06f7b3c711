"""Random displacements of atoms and deformations of cells."""

from __future__ import annotations

import numpy as np

from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.packed import Array


def perturb(
    frames: Frames,
    n: int,
    displacement: float = 0.01,
    strain: float = 0.03,
    seed: int = 0,
    *,
    include_original: bool = False,
) -> Frames:
    """Make randomly strained and displaced copies of every frame.

    The cell and, with it, the positions are deformed by 1 + ε, ε symmetric with independent
    components uniform in [-strain, strain] (halved off the diagonal, as in engineering shear).
    Then every atom moves by a vector uniform in a ball of radius `displacement`. The copies of
    a frame depend on the frame and the seed alone: asking for more keeps the first ones.

    Parameters
    ----------
    frames
        Frames to perturb; labels are dropped.
    n
        Perturbed copies of each frame.
    displacement
        Largest displacement of an atom in Å.
    strain
        Largest strain, as a fraction.
    seed
        Seed of the random numbers, 0 or more.
    include_original
        Whether each frame itself comes first, before its copies.

    Returns
    -------
    Frames
        The copies, frame by frame, on the grid of the ids (`Frames.snapped`).

    Raises
    ------
    ValueError
        If `displacement` or `strain` is negative or a strain could turn the cell over.
    """
    if displacement < 0 or not 0 <= strain < 0.5:
        raise ValueError(
            f"displacement ({displacement} Å) is 0 or more and strain ({strain}) from 0 to 0.5"
        )
    bare = frames.unlabelled()
    parts = []
    for frame in bare:
        if include_original:
            parts.append(frame)
        parts.append(_copies(frame, n, displacement, strain, seed))
    return concatenate(parts)[0].snapped() if any(map(len, parts)) else bare[:0]


def _copies(frame: Frames, n: int, displacement: float, strain: float, seed: int) -> Frames:
    random = np.random.default_rng([seed, int(frame.ids[0], 16)])
    deformations = np.empty((n, 3, 3))
    moves = np.empty((n, frame.n_atoms, 3))
    for index in range(n):
        deformations[index] = random_deformation(random, strain)
        directions = random.normal(size=(frame.n_atoms, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        radii = np.cbrt(random.uniform(size=(frame.n_atoms, 1)))
        moves[index] = displacement * (directions * radii)
    return Frames(
        symbols=frame.symbols,
        positions=frame.positions @ deformations + moves,
        cells=frame.cells @ deformations,
    )


def random_deformation(random: np.random.Generator, strain: float) -> Array:
    """Draw one deformation of a cell, as `perturb` applies them.

    Parameters
    ----------
    random
        The random numbers.
    strain
        Largest strain, as a fraction.

    Returns
    -------
    Array
        1 + ε with ε symmetric, (3, 3).
    """
    components = random.uniform(-strain, strain, (3, 3))
    symmetric = np.tril(components) + np.tril(components, -1).T
    halved = np.where(np.eye(3, dtype=bool), symmetric, symmetric / 2)
    deformation: Array = np.eye(3) + halved
    return deformation
