"""The section of labels from GPAW."""

from __future__ import annotations

from typing import Literal

from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.jobs.label.dft import GpawLabelMaker
from ionloop.runfile.sections.base import DftSection


class GpawSection(GpawSettings, DftSection):
    """Labels from GPAW in plane waves."""

    settings_type = GpawSettings
    maker_type = GpawLabelMaker

    code: Literal["gpaw"] = "gpaw"
    """GPAW, plane waves"""
