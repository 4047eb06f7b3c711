"""Learning rates that fit the number of steps.

The rate decays exponentially. A short training needs a higher one, and one that stays high: a rate
under which the weights hardly move any more only spends time. How the two ends depend on the
number of steps is interpolated between what was measured for short trainings
(`benchmarks/student.py`) and what DeePMD-kit's authors use for long ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

SHORT, LONG = 5_000, 400_000
"""Steps of the two trainings between which rates are interpolated; beyond them they stay."""

STARTS = (3e-3, 1e-3)
"""Rates at the start of the two."""

WARM_STARTS = (1e-3, 1e-4)
"""The same for a training that continues another one: a higher rate would undo that."""

STOPS = (3e-5, 3.5e-8)
"""Rates at their end."""

STILL = 0.01
"""How far a weight may move at most in the part of a training that counts as lost.

Adam moves a weight by the learning rate in a step, at most; the weights are between 0.1 and 1.
"""


@dataclass(frozen=True)
class Schedule:
    """A learning rate that decays exponentially.

    Parameters
    ----------
    start, stop
        Rates of the first and the last step.
    steps
        Steps of the training.
    """

    start: float
    stop: float
    steps: int

    @property
    def still(self) -> float:
        """Fraction of the steps, at the end, in which no weight can move by more than `STILL`.

        From the moment on at which the rate is r, the steps that are left add up to
        ``(r - stop) * steps / ln(start / stop)``.
        """
        decay = log(self.start / self.stop)
        if not decay:
            return 1.0 if self.start * self.steps < STILL else 0.0
        return min(log(self.last_moving / self.stop) / decay, 1.0)

    @property
    def last_moving(self) -> float:
        """The rate at which the still part begins."""
        return self.stop + STILL * log(self.start / self.stop) / self.steps


def schedule(
    steps: int, start: float | None = None, stop: float | None = None, *, warm: bool = False
) -> Schedule:
    """Return the learning rates of a training, those chosen that are not given.

    Parameters
    ----------
    steps
        Steps of the training.
    start, stop
        Rates that are given; a stop that is chosen is never above the start.
    warm
        Whether the training continues another one.
    """
    first = _between(steps, *(WARM_STARTS if warm else STARTS)) if start is None else start
    last = min(_between(steps, *STOPS), first) if stop is None else stop
    return Schedule(first, last, steps)


def _between(steps: int, short: float, long: float) -> float:
    """Interpolate rates of a short and a long training on logarithmic scales, to two digits."""
    way = log(min(max(steps, SHORT), LONG) / SHORT) / log(LONG / SHORT)
    return float(f"{short * exp(way * log(long / short)):.1e}")
