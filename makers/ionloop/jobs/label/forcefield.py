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
    """

    name: str = "label with a force field"
    settings: ForceFieldSettings = field(default_factory=ForceFieldSettings)
