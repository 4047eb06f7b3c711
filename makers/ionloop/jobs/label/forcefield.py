"""Labels from universal potentials and ASE calculators."""

from __future__ import annotations

from dataclasses import dataclass, field

from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.jobs.label.batches import BatchLabelMaker


@dataclass
class ForceFieldLabelMaker(BatchLabelMaker):
    """Labels from a universal potential or any ASE calculator.

    Parameters
    ----------
    settings
        Which potential, and the limits on its labels.

    Examples
    --------
    >>> maker = ForceFieldLabelMaker(settings=ForceFieldSettings(model="7net-0"), batch_size=50)
    >>> maker.level.code, maker.level.settings["model"]
    ('sevennet', '7net-0')
    """

    name: str = "label with a force field"
    settings: ForceFieldSettings = field(default_factory=ForceFieldSettings)
