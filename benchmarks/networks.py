"""The DeePMD networks that the benchmarks train."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, Any] = {
    "rcut": 5.0,
    "neurons": [10, 20, 40],
    "axis_neurons": 8,
    "fitting": [64, 64, 64],
}
WIDE: dict[str, Any] = {
    "rcut": 6.0,
    "neurons": [20, 40, 80],
    "axis_neurons": 16,
    "fitting": [100, 100, 100],
}
"""A step takes 1.7 times the processor time of the small network's."""
SINGLE: dict[str, Any] = {"precision": "float32"}
"""A step takes a fifth less time, at the same error (`student.py`)."""
