"""Training by fine-tuning SevenNet models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ionloop.codes.sevennet.settings import SEVENNET, SevennetSettings
from ionloop.jobs.train.finetune import FineTuneMaker


@dataclass
class SevennetTrainMaker(FineTuneMaker):
    """Fine-tunes an ensemble of SevenNet models.

    Parameters
    ----------
    settings
        Base, steps, learning rate; the same for every model.

    Examples
    --------
    >>> from ionloop.codes.sevennet.settings import SevennetSettings
    >>> settings = SevennetSettings(base="7net-l3i5", patience=5)
    >>> maker = SevennetTrainMaker(settings=settings, type_map=["Li", "S"], n_models=2)
    >>> [job.name for job in maker.make(dataset=[], seed=1).jobs]
    ['train model 1 of 2', 'train model 2 of 2', 'collect ensemble']
    """

    kind: ClassVar[str] = SEVENNET

    settings: SevennetSettings = field(default_factory=SevennetSettings, kw_only=True)
