"""Time ionloop's own part of a turn (jobs, store, bookkeeping, selection), compared with targets.

The real loop runs on the embedded store, with Makers whose labels, models and frames take no
time (`cheap_makers`). A turn lasts from the end of the previous decision to the end of its
own decision. Run as ``OMP_NUM_THREADS=1 python benchmarks/turn.py``.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from cheap_makers import CheapExploreMaker, CheapLabelMaker, CheapTrainMaker

from ionloop.engines.local.runner import LocalRunner
from ionloop.flows.concurrent_learning.maker import ConcurrentLearningMaker
from ionloop.flows.concurrent_learning.settings import InitialData
from ionloop.jobs.select import WindowSelectMaker
from ionloop.schemas.exploration import Stage
from ionloop.stores.connect import collection, open_store
from selection import N_DATASET, TRUST, synthetic

TURNS = 3
TARGETS = {300: 2.0, 10_000: 20.0}
"""Seconds a turn may take, by the number of its candidates."""


def loop(n_candidates: int) -> ConcurrentLearningMaker:
    """Return a loop of a few turns over a data set as large as that of Huang et al. (2021)."""
    return ConcurrentLearningMaker(
        label=CheapLabelMaker(batch_size=300),
        train=CheapTrainMaker(),
        explore=CheapExploreMaker(n_candidates=n_candidates),
        select=WindowSelectMaker(),
        production=CheapTrainMaker(),
        stages=[Stage(temperatures=[300.0], steps=100, max_turns=TURNS)],
        trust=TRUST,
        initial=InitialData(n_perturbed=N_DATASET),
    )


def journal_of(n_candidates: int, folder: Path) -> list[dict[str, Any]]:
    """Run the loop and return the journal of its jobs, in the order in which they ended."""
    url = str(folder / "a.db")
    runner = LocalRunner(store_url=url, scratch=folder / "scratch", cores=2)
    summary = runner.run(loop(n_candidates).make([synthetic(1, 0)]), "turn")
    if not summary.ok:
        raise SystemExit(summary.message)
    store = open_store(url)
    entries = list(collection(store, "jobs").query(properties=["name", "role", "started", "ended"]))
    store.close()
    return sorted(entries, key=lambda entry: entry["ended"])


def turns(journal: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Split a journal into turns, each ending with its decision; the first turn is left out."""
    ends = [i for i, entry in enumerate(journal) if entry["name"].startswith("conclude turn")]
    return [list(journal[a : b + 1]) for a, b in pairwise(ends)]


def seconds_by_role(turn: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Sum the run times of jobs by role in s; simultaneous jobs all count."""
    spent: defaultdict[str, float] = defaultdict(float)
    for entry in turn[1:]:
        spent[entry["role"]] += _time(entry["ended"]) - _time(entry["started"])
    return dict(spent)


def report(n_candidates: int, turn: Sequence[dict[str, Any]]) -> None:
    """Print how long a turn took, its ratio to the target, and where the time went."""
    wall, target = _time(turn[-1]["ended"]) - _time(turn[0]["ended"]), TARGETS[n_candidates]
    roles = seconds_by_role(turn)
    print(
        f"turn of {n_candidates:,} candidates, {N_DATASET:,} labelled: {wall:6.2f} s, "
        f"{wall / target:.2f} of the {target:g} s target; {len(turn) - 1} jobs: "
        + ", ".join(f"{role} {seconds:.2f} s" for role, seconds in roles.items())
    )


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    """Run everything."""
    for n_candidates in TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            for turn in turns(journal_of(n_candidates, Path(folder))):
                report(n_candidates, turn)


if __name__ == "__main__":
    main()
