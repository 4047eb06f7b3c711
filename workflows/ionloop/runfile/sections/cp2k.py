"""The section of labels from CP2K."""

from __future__ import annotations

from typing import Literal

from ionloop.codes.cp2k.settings import Cp2kSettings
from ionloop.jobs.label.dft import Cp2kLabelMaker
from ionloop.runfile.sections.base import DftSection


class Cp2kSection(Cp2kSettings, DftSection):
    """Labels from CP2K, Gaussians and plane waves."""

    settings_type = Cp2kSettings
    maker_type = Cp2kLabelMaker

    code: Literal["cp2k"] = "cp2k"
    """CP2K"""
