"""CP2K."""

from __future__ import annotations

from ionloop.codes.cp2k.calculation import calculate, probe
from ionloop.codes.cp2k.data import missing_kinds
from ionloop.codes.cp2k.inputs import input_file
from ionloop.codes.cp2k.level import level_of_theory
from ionloop.codes.cp2k.settings import Cp2kSettings

__all__ = ["Cp2kSettings", "calculate", "input_file", "level_of_theory", "missing_kinds", "probe"]
