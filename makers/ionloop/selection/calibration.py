"""How well the model deviation of an ensemble tells the true error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ionloop.schemas.packed import Array


@dataclass(frozen=True)
class Calibration:
    """How the deviation of an ensemble relates to its true error.

    Parameters
    ----------
    n_frames
        Frames compared.
    rank_correlation
        Spearman's: 1 when the deviation orders the frames as their errors do.
    ratio_q10, ratio_q50, ratio_q90
        Quantiles of error over deviation: above 1 the ensemble is too sure of itself.
    """

    n_frames: int
    rank_correlation: float
    ratio_q10: float
    ratio_q50: float
    ratio_q90: float


def max_force_error(forces: Array, reference: Array) -> Array:
    """Return the largest force error of every frame, the counterpart of the deviation.

    Parameters
    ----------
    forces
        Mean forces of the ensemble in eV/Å, (f, n, 3).
    reference
        Labelled forces in eV/Å, (f, n, 3).

    Returns
    -------
    Array
        ``max_i |F_i - F_i(label)|`` in eV/Å, (f,).
    """
    error: Array = np.linalg.norm(np.subtract(forces, reference), axis=-1).max(axis=-1)
    return error


def calibrate(deviation: Array, error: Array) -> Calibration:
    """Compare deviations with true errors.

    Parameters
    ----------
    deviation
        Maximum force deviations in eV/Å, (f,), above zero.
    error
        Maximum force errors of the same frames in eV/Å, (f,).

    Returns
    -------
    Calibration
        Rank correlation and quantiles of error over deviation.

    Raises
    ------
    ValueError
        If there are fewer than two frames, or a deviation is zero or not finite.
    """
    deviation, error = np.asarray(deviation, dtype=float), np.asarray(error, dtype=float)
    if len(deviation) < 2:
        raise ValueError(f"a calibration needs two frames or more, not {len(deviation)}")
    if not np.all(np.isfinite(deviation) & (deviation > 0)):
        raise ValueError("a calibration needs finite deviations above zero; leave out the others")
    quantiles = np.quantile(error / deviation, [0.1, 0.5, 0.9]).tolist()
    rank_correlation = float(np.corrcoef(ranks(deviation), ranks(error))[0, 1])
    return Calibration(len(deviation), rank_correlation, *quantiles)


def ranks(values: Array) -> Array:
    """Return the ranks of values (f,), counted from 0, equal values sharing their mean rank.

    As `scipy.stats.rankdata` less 1, without the half second in which scipy.stats is imported.
    """
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    shared: Array = (np.cumsum(sizes) - (sizes + 1) / 2)[group]
    return shared
