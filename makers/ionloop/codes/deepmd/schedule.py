"""Learning rates that fit the number of steps.

A short training needs a high rate that stays high for most of its steps: a rate under which the
weights hardly move any more only spends time. `benchmarks/student.py` measures this for trainings
of some thousand steps. Long ones, for which nothing was measured, get what DeePMD-kit's authors use
for 400,000 steps; in between the rates are interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, exp, expm1, log, pi, sin
from typing import Literal

Decay = Literal["exponential", "cosine"]

SHORT, LONG = 5_000, 400_000
"""Steps of the two trainings between which rates are interpolated; beyond them they stay."""

MOST_COSINE = 100_000
"""Steps up to which a chosen rate decays along a cosine; it was measured up to 80,000."""

STARTS = (5e-3, 1e-3)
"""Rates at the start of the two; 1e-2 did better still in 1,400 steps, but leaves no reserve."""

WARM_STARTS = (3e-3, 1e-4)
"""The same for a training that continues another one.

A model of a short training has far to go, and 3e-3 left smaller errors than 1e-3. A rate as high as
that would undo what a long training has learned.
"""

STOPS: dict[Decay, tuple[float, float]] = {"exponential": (3e-5, 3.5e-8), "cosine": (1e-6, 3.5e-8)}
"""Rates at their end: that of a cosine hardly matters, since it is near its end only briefly."""

STILL = 0.01
"""How far a weight may move at most in the part of a training that counts as lost.

Adam moves a weight by the learning rate in a step, at most; the weights are between 0.1 and 1.
"""


@dataclass(frozen=True)
class Schedule:
    """A learning rate that decays.

    Parameters
    ----------
    start, stop
        Rates of the first and the last step.
    steps
        Steps of the training.
    decay
        Along an exponential function or half a cosine wave.
    """

    start: float
    stop: float
    steps: int
    decay: Decay = "exponential"

    @property
    def still(self) -> float:
        """Fraction of the steps, at the end, in which no weight can move by more than `STILL`."""
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self._path(middle) < STILL else (low, middle)
        return high

    @property
    def last_moving(self) -> float:
        """The rate at which the still part begins."""
        left = self.still
        if self.decay == "cosine":
            return self.stop + (self.start - self.stop) * (1 - cos(pi * left)) / 2
        return self.stop * exp(left * log(self.start / self.stop))

    def _path(self, left: float) -> float:
        """Return the sum of the rates when a fraction `left` of the steps is left."""
        if self.decay == "cosine":
            wave = (self.start - self.stop) * (left - sin(pi * left) / pi) / 2
            return self.steps * (self.stop * left + wave)
        fall = log(self.start / self.stop)
        return self.steps * self.stop * (expm1(fall * left) / fall if fall else left)


def schedule(
    steps: int,
    start: float | None = None,
    stop: float | None = None,
    decay: Decay | None = None,
    *,
    warm: bool = False,
) -> Schedule:
    """Return the learning rates of a training, with what is not given chosen.

    Parameters
    ----------
    steps
        Steps of the training.
    start, stop
        Rates that are given; a stop that is chosen is never above the start.
    decay
        How it decays. If it is not given, rates that are given decay exponentially, as they always
        did; chosen ones along a cosine, up to `MOST_COSINE` steps.
    warm
        Whether the training continues another one.
    """
    if decay is None:
        chosen = start is None and stop is None and steps <= MOST_COSINE
        decay = "cosine" if chosen else "exponential"
    first = _between(steps, *(WARM_STARTS if warm else STARTS)) if start is None else start
    last = min(_between(steps, *STOPS[decay]), first) if stop is None else stop
    return Schedule(first, last, steps, decay)


def _between(steps: int, short: float, long: float) -> float:
    """Interpolate rates of a short and a long training on logarithmic scales, to two digits."""
    way = log(min(max(steps, SHORT), LONG) / SHORT) / log(LONG / SHORT)
    return float(f"{short * exp(way * log(long / short)):.1e}")
