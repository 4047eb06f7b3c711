"""GPAW in plane waves."""

from __future__ import annotations

from ionloop.codes.gpaw.calculation import SCRIPT, calculate, probe
from ionloop.codes.gpaw.level import level_of_theory
from ionloop.codes.gpaw.settings import GpawSettings

__all__ = ["SCRIPT", "GpawSettings", "calculate", "level_of_theory", "probe"]
