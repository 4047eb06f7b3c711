"""Labels from DFT programs that are started once per frame: GPAW and CP2K."""

from __future__ import annotations

from dataclasses import dataclass, field

from ionloop.codes.common.dft import DftSettings
from ionloop.codes.cp2k.settings import Cp2kSettings
from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.jobs.label.batches import BatchLabelMaker


@dataclass
class DftLabelMaker(BatchLabelMaker):
    """Labels from a DFT program that is started once per frame.

    Parameters
    ----------
    batch_size
        Frames per job, calculated one after another.
    settings
        Level of theory, command, and the limits on the labels.
    """

    batch_size: int = 5
    settings: DftSettings = field(default_factory=GpawSettings)


@dataclass
class GpawLabelMaker(DftLabelMaker):
    """Labels from GPAW in plane waves.

    Examples
    --------
    >>> maker = GpawLabelMaker(settings=GpawSettings(cutoff=400), batch_size=2)
    >>> maker.level.settings["cut-off"]
    '400 eV'
    """

    name: str = "label with GPAW"
    settings: GpawSettings = field(default_factory=GpawSettings)


@dataclass
class Cp2kLabelMaker(DftLabelMaker):
    """Labels from CP2K.

    Examples
    --------
    >>> maker = Cp2kLabelMaker(settings=Cp2kSettings(cutoff=600))
    >>> maker.level.settings["cut-off"]
    '600 and 60 Ry'
    """

    name: str = "label with CP2K"
    settings: Cp2kSettings = field(default_factory=Cp2kSettings)
