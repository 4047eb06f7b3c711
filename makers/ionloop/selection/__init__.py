"""Selection of frames for labelling: pure functions on frames and deviations."""

from __future__ import annotations

from ionloop.selection.accounting import Selection, select
from ionloop.selection.calibration import calibrate
from ionloop.selection.physical import PhysicalLimits
from ionloop.selection.trust import classify, judge

__all__ = ["PhysicalLimits", "Selection", "calibrate", "classify", "judge", "select"]
