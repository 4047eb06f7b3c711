"""A key that all descriptions of one configuration share.

One configuration can be written in many ways: atoms of one species in another order, species in
another order, atoms at other periodic images, everything rotated. All of them have one key. It is
made of numbers that none of these changes and that change smoothly as atoms move: the logarithm
of the volume, and along each lattice vector the mean over the atoms of ``cos(2 pi s + phase)``, s
the fractional coordinate and the phase that of the species. Nothing happens to a cosine where an
atom crosses the border of the cell, and nothing is sorted.

Each number is rounded down to steps of `STEP`. A search for a configuration whose atoms may be off
by up to `SAME` (what a text file rounds away) uses the keys of all steps within reach: one or a
few. The key only says where to look; the atoms decide whether it is the same configuration.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache
from itertools import product

import numpy as np

from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array

SAME = 1e-5
"""Å: how far atoms and lattice vectors of one configuration may be apart.

An OUTCAR rounds positions to 0.9e-5 Å at most; no label feels it.
"""

STEP = 1e-4
"""Width of the steps into which the numbers of a key are cut.

A move by `SAME` changes a number by less than 2 pi `SAME` over the height of the cell, some 1e-5;
from one perturbed frame or moment of a trajectory to another it changes by some 1e-1.
"""

_ROUND_OFF = 1e-10


def likeness(frames: Frames) -> list[str]:
    """Return the key of every frame, "" where the cell is flat or something is not finite.

    Parameters
    ----------
    frames
        f frames.

    Returns
    -------
    list of str
        Composition and steps, such as ``"Au4 Cu4 48123 -311 75 2087"``, (f).
    """
    numbers, _ = _numbers(frames)
    return [_key(frames, _steps(row)) if np.isfinite(row).all() else "" for row in numbers]


def likenesses_near(frame: Frames) -> list[str]:
    """Return the keys under which configurations up to `SAME` from a frame are found.

    Parameters
    ----------
    frame
        One frame.

    Returns
    -------
    list of str
        One key, or a few where numbers are near the border of a step; none where the frame has
        no key.
    """
    numbers, reach = _numbers(frame)
    if not np.isfinite(numbers).all():
        return []
    ends = zip(_steps(numbers[0] - reach[0]), _steps(numbers[0] + reach[0]), strict=True)
    return [_key(frame, steps) for steps in product(*(range(a, b + 1) for a, b in ends))]


def _key(frames: Frames, steps: tuple[int, ...]) -> str:
    counts = sorted(Counter(frames.symbols).items())
    return " ".join([*(f"{symbol}{n}" for symbol, n in counts), *map(str, steps)])


def _steps(numbers: Array) -> tuple[int, ...]:
    return tuple(np.floor(numbers / STEP).astype(int).tolist())


def _numbers(frames: Frames) -> tuple[Array, Array]:
    """Return the numbers of every frame, (f, 4), and how far a move by `SAME` can change them."""
    numbers = np.full((len(frames), 4), np.nan)
    reach = np.zeros((len(frames), 4))
    sound = _sound(frames)
    crystals = frames[sound]
    inverse = np.linalg.inv(crystals.cells)
    phases = np.array([_phase(symbol) for symbol in frames.symbols])[:, None]
    scaled = crystals.positions @ inverse
    numbers[sound, 0] = np.log(crystals.volumes)
    numbers[sound, 1:] = np.cos(2 * np.pi * scaled + phases).mean(axis=1)
    tilts = np.linalg.norm(inverse, axis=1)  # one over the heights of the cell, in 1/Å
    reach[sound, 0] = SAME * tilts.sum(axis=1)
    reach[sound, 1:] = 2 * np.pi * SAME * tilts
    return numbers, reach + _ROUND_OFF


def _sound(frames: Frames) -> Array:
    """Return the indices of the frames that are finite and whose cell has a volume."""
    geometry = np.concatenate([frames.cells, frames.positions], axis=1)
    finite = np.flatnonzero(np.isfinite(geometry).all(axis=(1, 2)))
    with np.errstate(over="ignore"):
        volumes = frames[finite].volumes
    sound: Array = finite[(volumes > 0) & np.isfinite(volumes)]
    return sound


@cache
def _phase(symbol: str) -> float:
    digits = int(hashlib.sha256(symbol.encode()).hexdigest()[:8], 16)
    return 2 * np.pi * digits / 16**8
