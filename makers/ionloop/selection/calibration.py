"""Model deviation of an ensemble, and how well it tells the true error."""

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


def ensemble_deviation(forces: Array) -> Array:
    """Return the maximum force deviation of every frame.

    ``max_i sqrt(<|F_i - <F_i>|^2>)`` over atoms i, averages over the m models (population
    variance): eq. (1) of Huang et al., J. Chem. Phys. 154, 094703 (2021), as DeePMD-kit and
    LAMMPS print it.

    Parameters
    ----------
    forces
        Forces of m models on f frames of n atoms in eV/Å, (m, f, n, 3).

    Returns
    -------
    Array
        max_devi_f in eV/Å, (f,).
    """
    deviation: Array = np.sqrt(np.var(forces, axis=0).sum(axis=-1)).max(axis=-1)
    return deviation


def ensemble_virial_deviation(virials: Array, n_atoms: int) -> Array:
    """Return the maximum virial deviation of every frame.

    The standard deviation over models of each of the nine components of the virial per atom, and
    the largest of the nine, as DeePMD-kit and LAMMPS print it.

    Parameters
    ----------
    virials
        Virials of m models on f frames in eV, (m, f, 3, 3).
    n_atoms
        Atoms per frame.

    Returns
    -------
    Array
        max_devi_v in eV/atom, (f,).
    """
    deviation: Array = np.std(virials, axis=0).max(axis=(-2, -1)) / n_atoms
    return deviation


def max_force_error(forces: Array, reference: Array) -> Array:
    """Return the largest force error of every frame, the counterpart of `ensemble_deviation`.

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
