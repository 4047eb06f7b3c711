"""The results of `labels.py`: a file with one line per training, tables and figures from it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from label_data import Score
from label_methods import METHODS, Order
from results import add_line, markdown, mean_and_spread, read_lines

HELPS = 0.03
"""Fraction by which a longer training must lower the error to count as a gain."""


@dataclass(frozen=True)
class Record:
    """One training and its errors.

    Parameters
    ----------
    method, n, seed, steps, quick
        As in `Order`, with the number of frames where all were asked for.
    all_labels
        Whether it had the whole pool.
    test
        Errors on the test frames.
    tuning
        Errors on the frames that tell when more steps no longer help.
    core_seconds
        Processor time of everything that made the potential.
    settings
        What decided the training.
    notes
        Other numbers, such as the force error on the training frames.
    """

    method: str
    n: int
    seed: int
    steps: int
    quick: bool
    all_labels: bool
    test: Score
    tuning: Score
    core_seconds: float
    settings: dict[str, Any]
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def order(self) -> Order:
        """The training that it is the result of."""
        n = None if self.all_labels else self.n
        return Order(self.method, n, self.seed, self.steps, self.quick)

    @classmethod
    def of(cls, read: dict[str, Any]) -> Self:
        """Return what a line of the file says."""
        return cls(**read | {key: Score(**read[key]) for key in ("test", "tuning")})


class Results:
    """The file of results: a line is added when a training and its test are done.

    Parameters
    ----------
    path
        The file; what it holds is not run again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        records = map(Record.of, read_lines(path))
        self.records = {record.order: record for record in records}

    def add(self, record: Record) -> None:
        """Add a line, and see it on the disk."""
        with self._lock:
            add_line(self.path, asdict(record))
            self.records[record.order] = record


def helps(shorter: Record, longer: Record) -> bool:
    """Tell whether the longer training lowered the force error by more than 3 %."""
    return longer.tuning.force < (1 - HELPS) * shorter.tuning.force


def delivered(records: Sequence[Record]) -> list[Record]:
    """Return of every method, number of labels and seed the length of training that did best.

    Which did best is judged by other frames than the test frames.
    """
    best: dict[tuple[str, int, int], Record] = {}
    for record in records:
        key = (record.method, record.n, record.seed)
        if key not in best or record.tuning.force < best[key].tuning.force:
            best[key] = record
    return list(best.values())


@dataclass(frozen=True)
class Cell:
    """What a method reaches with a number of labels, over its seeds.

    Parameters
    ----------
    records
        One per seed.
    """

    records: list[Record]

    def values(self, name: str) -> list[float]:
        """Return a number of the test, or of the record, for every seed."""
        return [getattr(r.test if hasattr(r.test, name) else r, name) for r in self.records]

    def mean(self, name: str) -> float:
        """Return its mean over the seeds."""
        return float(np.mean(self.values(name)))

    def words(self, name: str, digits: int = 0) -> str:
        """Return mean ± standard deviation; of one seed, the number alone."""
        return mean_and_spread(self.values(name), digits)


Cells = dict[tuple[str, int], Cell]


def cells(records: Sequence[Record]) -> Cells:
    """Return what every method reaches, by method and number of labels, in order."""
    grouped: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in delivered(records):
        grouped[record.method, record.n].append(record)
    known = list(METHODS)
    order = sorted(grouped, key=lambda key: (known.index(key[0]), key[1]))
    return {key: Cell(grouped[key]) for key in order}


HEADER = [
    "method",
    "labels",
    "seeds",
    "forces, meV/Å",
    "on its own frames",
    "energies, meV/atom",
    "one constant taken off",
    "steps",
    "core seconds",
]


def table(records: Sequence[Record]) -> str:
    """Return the table of errors and core seconds, in Markdown."""
    rows = [HEADER]
    for (method, n), cell in cells(records).items():
        own = [r.notes["own_force"] for r in cell.records if "own_force" in r.notes]
        steps = sorted({record.steps for record in cell.records})
        rows.append(
            [
                METHODS[method].title,
                f"{n:,}",
                str(len(cell.records)),
                cell.words("force"),
                f"{np.mean(own):.0f}" if own else "–",
                cell.words("energy", 1),
                cell.words("energy_shifted", 2),
                " to ".join(f"{each:,}" for each in dict.fromkeys([steps[0], steps[-1]])),
                f"{cell.mean('core_seconds'):,.0f}",
            ]
        )
    return markdown(rows)


def ratios(records: Sequence[Record]) -> Iterator[str]:
    """Yield the force errors that are to be compared, as ratios with their core seconds."""
    found = cells(records)
    most = max((n for _, n in found), default=0)
    pairs = [
        (("distilled", 50), ("7net-0", 50)),
        (("distilled-l3i5", 50), ("7net-l3i5", 50)),
        (("distilled-wide", 50), ("scratch-wide", 500)),
        (("distilled-wide", 50), ("distilled-l3i5", 50)),
        *(
            ((method, 50), ("scratch", n))
            for method in ("distilled", "distilled-l3i5", "7net-0", "7net-l3i5")
            for n in (50, 500, most)
        ),
    ]
    for one, other in dict.fromkeys(pairs):
        if one in found and other in found:
            ratio = found[one].mean("force") / found[other].mean("force")
            cost = found[one].mean("core_seconds") / found[other].mean("core_seconds")
            yield (
                f"{_words(*one)} against {_words(*other)}: force error × {ratio:.2f}, "
                f"core seconds × {cost:.2f}"
            )


def _words(method: str, n: int) -> str:
    return f"{METHODS[method].title} with {n:,} labels"


def unfinished(records: Sequence[Record]) -> list[str]:
    """Return the trainings whose last and longest try still helped, in words."""
    chains: dict[tuple[str, int, int], list[Record]] = defaultdict(list)
    for record in records:
        chains[record.method, record.n, record.seed].append(record)
    growing = []
    for (method, n, seed), chain in chains.items():
        tried = sorted(chain, key=lambda record: record.steps)
        if not tried[-1].quick and (len(tried) < 2 or helps(*tried[-2:])):
            growing.append(f"{_words(method, n)}, seed {seed} (up to {tried[-1].steps:,} steps)")
    return growing
