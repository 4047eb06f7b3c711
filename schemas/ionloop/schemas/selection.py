"""Selection: verdicts on explored frames and the frames picked for labelling."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from ionloop.schemas.document import Document, Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.table import Table
from ionloop.schemas.units import EnergyPerAtom, Force, Pressure, Temperature


class Verdict(StrEnum):
    """The verdict on one explored frame."""

    ACCURATE = "accurate"
    CANDIDATE = "candidate"
    FAILED = "failed"
    SKIPPED = "skipped"


class TrustWindow(Model):
    """Trust levels of the model deviation: ``[low, high)``.

    Below `low` a frame is accurate, from `low` it is a candidate, from `high` it is failed. The
    rule of thumb of Huang et al. (2021): `low` just over the training error, `high` 0.1 to 0.3
    eV/Å above it.
    """

    low: Annotated[Force, Field(gt=0)]
    """σ_low in eV/Å"""
    high: Annotated[Force, Field(gt=0)]
    """σ_high in eV/Å"""
    v_low: EnergyPerAtom | None = Field(None, gt=0)
    """lower limit on max_devi_v, the deviation of the virial per atom"""
    v_high: EnergyPerAtom | None = Field(None, gt=0)
    """upper limit on max_devi_v, the deviation of the virial per atom"""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if (self.v_low is None) != (self.v_high is None):
            raise ValueError("v_low and v_high are given together or not at all")
        if self.v_low is not None and self.v_high is not None and self.v_low >= self.v_high:
            raise ValueError(f"v_low ({self.v_low}) must be below v_high ({self.v_high})")
        return self

    @property
    def f(self) -> tuple[float, float]:
        """Window on the force deviation, eV/Å."""
        return (self.low, self.high)

    @property
    def v(self) -> tuple[float, float] | None:
        """Window on the deviation of the virial per atom, eV/atom, if there is one."""
        return None if self.v_low is None or self.v_high is None else (self.v_low, self.v_high)


ANY_DEVIATION = TrustWindow(low=1e-12, high=1e12)
"""With this window every frame that is physically sound is a candidate: nothing is chosen by it."""


class VerdictCounts(Model):
    """How many of the frames that were asked for got which verdict."""

    accurate: int = 0
    candidate: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def judged(self) -> int:
        """Frames that count: all but the skipped ones."""
        return self.accurate + self.candidate + self.failed

    @property
    def accurate_fraction(self) -> float:
        """Accurate over judged frames; 0 when nothing was judged."""
        return self.accurate / self.judged if self.judged else 0.0


class TemperatureCounts(VerdictCounts):
    """Verdict counts at one temperature."""

    temperature: Temperature


class ConditionCounts(VerdictCounts):
    """Verdict counts of one condition: temperature, pressure and composition."""

    temperature: Temperature
    pressure: Pressure
    composition: str
    """formula of the cell; empty where it is not known"""


class Pick(Model):
    """A frame picked for labelling, and where it comes from."""

    frame_id: str
    trajectory: int
    step: int
    temperature: Temperature
    pressure: Pressure
    max_devi_f: Force
    reason: str


class Histogram(Model):
    """Counts of the maximum force deviation between edges (eV/Å)."""

    edges: list[float]
    counts: list[int]


class SelectionDoc(Document):
    """Verdicts, picks and their reasons.

    `verdicts` has one row per frame that was asked for: the columns of the exploration's
    `deviations`, the frame id where the frame travelled, and the final reason, which says of every
    candidate whether it was picked or what stood against it.
    """

    trust: TrustWindow
    seed: int
    max_labels: int
    counts: VerdictCounts
    by_temperature: list[TemperatureCounts]
    conditions: list[ConditionCounts] = Field([])
    """by temperature, pressure and composition"""
    histogram: Histogram
    picks: list[Pick]
    set_aside: dict[str, int]
    """candidates not picked, by reason"""
    picked: list[Frames]
    """the picked frames, one entry per composition"""
    verdicts: Table
