"""Time verdicts, picks and selection on one thread, and compare with their targets.

Run as ``OMP_NUM_THREADS=1 python benchmarks/selection.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import get_args

import numpy as np

from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.selection import TrustWindow, Verdict
from ionloop.schemas.table import Table
from ionloop.selection import classify, select
from ionloop.selection.pick import SelectSettings, Strategy, pick

TRUST = TrustWindow(low=0.12, high=0.25)
SYMBOLS = ("Li",) * 20 + ("Ge",) * 2 + ("P",) * 4 + ("S",) * 24
CELL = np.diag([8.79, 8.79, 12.66])
N_DATASET = 2390


def lattice() -> Array:
    """Return 50 sites of a 50-atom LGPS cell, well apart, in Å, (50, 3)."""
    grid = np.stack(np.meshgrid(np.arange(3), np.arange(3), np.arange(6)), axis=-1)
    return (grid.reshape(-1, 3)[:50] + 0.5) / [3, 3, 6] @ CELL


def synthetic(n_frames: int, seed: int) -> Frames:
    """Return frames of LGPS composition with displacements of thermal size."""
    displaced = np.random.default_rng(seed).normal(0, 0.2, (n_frames, 50, 3))
    return Frames(SYMBOLS, lattice() + displaced, np.broadcast_to(CELL, (n_frames, 3, 3)))


def deviations_of(n_candidates: int) -> Table:
    """Return the table of an exploration whose frames are all candidates that were sent back."""
    rng = np.random.default_rng(0)
    rows = np.arange(n_candidates)
    return Table(
        {
            "trajectory": rows // 100,
            "step": rows % 100,
            "temperature": np.choose(rows % 3, [300.0, 600.0, 900.0]),
            "pressure": np.ones(n_candidates),
            "max_devi_f": rng.uniform(*TRUST.f, n_candidates),
            "max_devi_v": np.zeros(n_candidates),
            "min_distance_ratio": np.full(n_candidates, 1.3),
            "verdict": np.full(n_candidates, Verdict.CANDIDATE.value),
            "reason": np.full(n_candidates, "in the trust window"),
            "frame": rows,
        }
    )


def classify_and_pick(max_devi_f: Array, candidates: Frames) -> None:
    """Classify all frames and pick 300 of all candidates among them."""
    mine = np.flatnonzero(classify(max_devi_f, TRUST.f) == Verdict.CANDIDATE)
    pick([candidates], max_devi_f[mine], [], SelectSettings(max_labels=300))


def rattled(frames: Frames, n_frames: int) -> Frames:
    """Return `n_frames` frames that nearly equal the given ones."""
    positions = frames.positions[np.arange(n_frames) % len(frames)]
    noise = np.random.default_rng(3).normal(0, 0.005, positions.shape)
    return Frames(SYMBOLS, positions + noise, np.broadcast_to(CELL, (n_frames, 3, 3)))


def report(what: str, target: float, work: Callable[[], object]) -> None:
    """Time some work; print the time in s and its ratio to the target in s."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"{what:58s} {wall:7.2f} s (CPU {cpu:6.2f}), {wall / target:5.2f} of the {target} s target"
    )


def run_select(
    candidates: Frames, dataset: Frames, strategy: Strategy = "random"
) -> Callable[[], object]:
    """Return a selection of at most 300 from candidates."""
    table = deviations_of(len(candidates))
    return lambda: select(
        table, [candidates], [dataset], TRUST, SelectSettings(strategy=strategy), seed=1
    )


def main() -> None:
    """Run everything."""
    max_devi_f = np.random.default_rng(0).uniform(0, 0.5, 10**6)
    report("classify, 1,000,000 frames", 1, lambda: classify(max_devi_f, TRUST.f))
    n_candidates = int(np.sum(classify(max_devi_f, TRUST.f) == Verdict.CANDIDATE))
    many = synthetic(1000, 1)[np.arange(n_candidates) % 1000]
    name = f"classify 1,000,000 frames and pick of {n_candidates:,}"
    report(name, 1, lambda: classify_and_pick(max_devi_f, many))
    dataset = synthetic(N_DATASET, 2)
    for number, target in ((300, 1), (10_000, 10)):
        for strategy in get_args(Strategy):
            name = f"select of {number:,} against {N_DATASET:,} labelled, {strategy}"
            report(name, target, run_select(synthetic(number, 1), dataset, strategy))
    name = f"select of 10,000 that are all like {N_DATASET:,} labelled"
    report(name, 10, run_select(rattled(dataset, 10_000), dataset))


if __name__ == "__main__":
    main()
