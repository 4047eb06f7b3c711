"""What tells duplicates from new configurations: a structural fingerprint, and displacements.

The fingerprint of a frame is a smeared histogram of its pair distances for every pair of
species. It does not change when like atoms are exchanged, when the frame is turned or moved, or
when another cell of the same size describes the same crystal, and it changes continuously as
atoms move.

It is scaled so that the distance between two fingerprints reads as a length: when all atoms move
at random by x Å (root mean square of every component, x well below the smearing), as they do
between two moments of a trajectory, the distance is x, whatever the number of atoms. Unrelated
snapshots of 50-atom LGPS at 300 K are 0.05 to 0.2 Å apart.

Near a crystal of high symmetry the histograms answer to displacements in second order only:
independent snapshots of a stiff, ordered crystal have fingerprints closer than that. So where a
fingerprint is near but not the same, the displacement of the atoms, in their order, decides.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ionloop.geometry.neighbours import Neighbours, neighbours, pair_kinds
from ionloop.geometry.periodic import fractional, rms, without_drift
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array

CUTOFF = 5.0
"""Distances up to here (Å) enter, with a weight that falls smoothly to zero."""


SMEARING = 0.2
"""Standard deviation in Å of the Gaussian that stands for one distance."""


TOLERANCE = 0.03
"""Default distance in Å up to which two frames count as one.

Measured on 50-atom LGPS at 300 K: median and smallest distance of the fingerprints of two frames
are 0.007 and 0.003 Å at 2 fs, 0.015 and 0.007 at 4 fs, 0.036 and 0.017 at 10 fs, 0.065 and 0.033
at 20 fs, 0.13 and 0.05 at 100 fs, and the displacements are 0.009, 0.017, 0.043, 0.084 and
0.28 Å. So frames up to some 6 fs apart count as one. A strain of 0.1 % gives 0.006 to 0.015 Å.
"""


_FINE = 0.05  # Å: grid on which distances are first collected, each shared by two points

_FEW = 1.0  # pairs: keeps the fingerprint of an isolated atom finite

_COARSE = 0.2  # Å: a Gaussian is sampled without loss at the distance of its standard deviation


def fingerprints(frames: Frames) -> Array:
    """Compute the fingerprints of frames.

    The smeared histogram ``H(r) = sum_p w(r_p) g(r - r_p)`` over all pairs p, with a Gaussian g
    of width s and a weight ``w(r) = cos^2(pi r / 2 r_c)``, answers a rattle of x Å, which changes
    every distance by sqrt(2) x, with ``<int dH^2> = 2 x^2 sum_p w_p^2 / (4 sqrt(pi) s^3)``. The
    fingerprint is H over the root of the factor that stands behind x².

    Parameters
    ----------
    frames
        f frames, finite, with cells of non-zero volume.

    Returns
    -------
    Array
        (f, d) in Å, the histograms of all pairs of species in alphabetical order; frames of equal
        composition can be compared, whatever the order of their atoms.

    Raises
    ------
    ValueError
        If a frame is not finite or its cell has no volume.
    """
    kinds, names = pair_kinds(frames)
    parts = [_of_chunk(found, kinds, len(names)) for found in neighbours(frames, CUTOFF)]
    return np.concatenate([np.empty((0, width(frames))), *parts])


def width(frames: Frames) -> int:
    """Return the number of components of the fingerprints of frames."""
    n_species = len(frames.species)
    return n_species * (n_species + 1) // 2 * int(_smearing().shape[1])


def distances(a: Array, b: Array) -> Array:
    """Return the distances in Å between fingerprints (f, d) and (g, d), (f, g).

    Parameters
    ----------
    a, b
        Fingerprints in Å, (f, d) and (g, d).
    """
    sizes = np.einsum("fd,fd->f", a, a)[:, None] + np.einsum("gd,gd->g", b, b)
    squares = sizes - 2 * (a @ b.T)
    apart: Array = np.sqrt(np.maximum(squares, 0.0))
    return apart


def scaled_positions(frames: Frames) -> Array:
    """Return fractional positions with the atoms sorted by species, (f, n, 3)."""
    order = np.argsort(frames.symbols, kind="stable")
    return fractional(frames.positions, frames.cells)[:, order]


def displacements(scaled: Array, cell: Array, others: Array) -> Array:
    """Return how far the atoms of other frames are from those of one frame, in their order.

    Parameters
    ----------
    scaled
        Fractional positions of the frame, (n, 3), as `scaled_positions` returns them.
    cell
        Its lattice vectors as rows in Å, (3, 3), in which the others are measured too.
    others
        Fractional positions of the others, (f, n, 3).

    Returns
    -------
    Array
        Root mean square over atoms and components in Å, (f,), of the shortest displacements, a
        common shift taken off.
    """
    steps = others - scaled
    return rms(without_drift(steps - steps[:, :1], cell))


def _of_chunk(found: Neighbours, kinds: Array, n_kinds: int) -> Array:
    """Return the fingerprints of the frames of one chunk, (f, k x points)."""
    n_frames = found.frames.stop - found.frames.start
    damping = np.cos(0.5 * np.pi * found.distance / CUTOFF) ** 2
    counts = _shared_counts(
        found.frame * n_kinds + kinds[found.first, found.second],
        found.distance / _FINE,
        damping * found.weight,
        (n_frames * n_kinds, _smearing().shape[0]),
    )
    histograms = (counts @ _smearing()).reshape(n_frames, -1)
    answer = np.bincount(found.frame, damping**2 * found.weight, minlength=n_frames)
    return histograms / np.sqrt(np.maximum(answer, _FEW))[:, None]


def _shared_counts(row: Array, place: Array, weight: Array, shape: tuple[int, int]) -> Array:
    """Count weights into rows, each shared by the two grid points around its place."""
    below = place.astype(int)
    above = place - below
    cell = row * shape[1] + below
    size = shape[0] * shape[1]
    counts = np.bincount(cell, weight * (1 - above), size)
    counts += np.bincount(cell + 1, weight * above, size)
    return counts.reshape(shape)


@cache
def _smearing() -> Array:
    """Return the scaled Gaussians (fine, coarse) that turn counts into a fingerprint, in Å."""
    fine = np.arange(round(CUTOFF / _FINE) + 2) * _FINE
    coarse = np.arange(0.0, CUTOFF + 2 * SMEARING, _COARSE)
    gaussians = np.exp(-0.5 * ((fine[:, None] - coarse) / SMEARING) ** 2)
    gaussians /= np.sqrt(2 * np.pi) * SMEARING
    scaled: Array = gaussians * np.sqrt(_COARSE * 2 * np.sqrt(np.pi) * SMEARING**3)
    return scaled
