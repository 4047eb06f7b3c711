"""Measure the cost of recognising another description of a known configuration.

Run as ``OMP_NUM_THREADS=1 python benchmarks/likeness.py``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ionloop.geometry.matching import match
from ionloop.schemas.frames import Frames
from ionloop.schemas.likeness import SAME, likeness, likenesses_near

SYMBOLS = ("Li",) * 20 + ("Ge",) * 2 + ("P",) * 4 + ("S",) * 24
N_FRAMES = 2000


def synthetic(repeated: int, displacement: float = 0.2) -> Frames:
    """Return frames of LGPS composition, 50 atoms times a number, displaced from a lattice."""
    rng = np.random.default_rng(0)
    cell = np.diag([8.79, 8.79, 12.66 * repeated])
    lattice = rng.uniform(size=(50 * repeated, 3)) @ cell
    displaced = rng.normal(0, displacement, (N_FRAMES, 50 * repeated, 3))
    return Frames(SYMBOLS * repeated, lattice + displaced, np.broadcast_to(cell, (N_FRAMES, 3, 3)))


def seconds(action: Callable[[], object], repeats: int = 3) -> float:
    """Return the best time in s."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


def report(frames: Frames) -> None:
    """Print times per frame, and how many configurations share a key."""
    few = [frames[index] for index in range(100)]
    ids = seconds(lambda: replace(frames).ids) / len(frames)
    keys = seconds(lambda: likeness(frames)) / len(frames)
    looks = seconds(lambda: [likenesses_near(frame) for frame in few]) / len(few)
    matches = seconds(lambda: [match(frame, frame, SAME) for frame in few]) / len(few)
    shared = Counter(likeness(frames))
    print(f"{frames.n_atoms} atoms, {len(frames)} frames, times in µs per frame")
    print(f"  id                {1e6 * ids:8.1f}")
    print(f"  key, to store     {1e6 * keys:8.1f}   {keys / ids:.1f} times the id's")
    print(f"  keys to look under{1e6 * looks:8.1f}")
    print(f"  match of two      {1e6 * matches:8.1f}")
    print(f"  different keys    {len(shared):8d}   most frames of one: {max(shared.values())}")


if __name__ == "__main__":
    for repeated in (1, 8):
        report(synthetic(repeated))
    report(synthetic(1, displacement=0.01))
