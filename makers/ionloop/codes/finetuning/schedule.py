"""The learning rate, and which frames a step sees: functions of the number of the step alone.

A training that is interrupted therefore continues with the same steps as one that is not.
"""

from __future__ import annotations

import math

import numpy as np

from ionloop.schemas.packed import Array

_BOOTSTRAP, _ORDER = 1, 2  # tell the random numbers of one seed apart


def learning_rate(step: int, steps: int, rise: int, largest: float) -> float:
    """Return the learning rate of a step: a linear rise, then a cosine to zero.

    Parameters
    ----------
    step
        Number of the step, from 0.
    steps
        All steps.
    rise
        Steps of the rise; at most a quarter of all steps rise.
    largest
        Largest learning rate.
    """
    rise = min(rise, steps // 4)
    if step < rise:
        return largest * (step + 1) / rise
    return largest * 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def drawn(n_frames: int, seed: int, bootstrap: bool) -> Array:
    """Return the numbers of the frames that a model is trained on.

    Parameters
    ----------
    n_frames
        Labelled frames.
    seed
        Seed of the model.
    bootstrap
        Whether as many frames as there are are drawn with repetition (Efron, Ann. Stat. 7, 1,
        1979), or each is taken once.
    """
    if not bootstrap:
        return np.arange(n_frames)
    return np.random.default_rng([seed, _BOOTSTRAP]).integers(n_frames, size=n_frames)


def batch(step: int, n_frames: int, size: int, seed: int) -> list[int]:
    """Return the numbers of the frames of a step; every epoch has an order of its own.

    Parameters
    ----------
    step
        Number of the step, from 0.
    n_frames
        Frames of an epoch.
    size
        Frames of a step.
    seed
        Seed of the model.
    """
    places = [divmod(place, n_frames) for place in range(step * size, (step + 1) * size)]
    orders = {epoch: _order(epoch, n_frames, seed) for epoch in {epoch for epoch, _ in places}}
    return [int(orders[epoch][place]) for epoch, place in places]


def _order(epoch: int, n_frames: int, seed: int) -> Array:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(n_frames)
