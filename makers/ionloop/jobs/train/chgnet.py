"""Training by fine-tuning CHGNet models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ionloop.codes.chgnet.settings import CHGNET, ChgnetSettings
from ionloop.jobs.train.finetune import FineTuneMaker


@dataclass
class ChgnetTrainMaker(FineTuneMaker):
    """Fine-tunes an ensemble of CHGNet models.

    Parameters
    ----------
    settings
        Base, steps, learning rate; the same for every model.

    Examples
    --------
    >>> from ionloop.codes.chgnet.settings import ChgnetSettings
    >>> settings = ChgnetSettings(patience=5)
    >>> maker = ChgnetTrainMaker(settings=settings, type_map=["Li", "S"], n_models=2)
    >>> [job.name for job in maker.make(dataset=[], seed=1).jobs]
    ['train model 1 of 2', 'train model 2 of 2', 'collect ensemble']
    """

    kind: ClassVar[str] = CHGNET

    settings: ChgnetSettings = field(default_factory=ChgnetSettings, kw_only=True)
