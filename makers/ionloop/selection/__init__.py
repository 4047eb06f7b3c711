"""Selection of frames for labelling: pure functions on frames and deviations."""

from __future__ import annotations

from ionloop.selection.accounting import Selection, select
from ionloop.selection.calibration import calibrate
from ionloop.selection.physical import PhysicalLimits
from ionloop.selection.pick import SelectSettings
from ionloop.selection.trust import Observed, classify, judge

__all__ = [
    "Observed",
    "PhysicalLimits",
    "SelectSettings",
    "Selection",
    "calibrate",
    "classify",
    "judge",
    "select",
]
