"""Selection of frames for labelling: pure functions on frames and deviations."""

from __future__ import annotations

from ionloop.selection.accounting import select
from ionloop.selection.calibration import calibrate
from ionloop.selection.physical import PhysicalLimits
from ionloop.selection.pick import SelectSettings
from ionloop.selection.trust import Observed, classify, judge

__all__ = [
    "Observed",
    "PhysicalLimits",
    "SelectSettings",
    "calibrate",
    "classify",
    "judge",
    "select",
]
