"""Training by fine-tuning DPA models of DeePMD-kit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ionloop.codes.dpa.settings import DpaSettings
from ionloop.jobs.train.finetune import FineTuneMaker
from ionloop.schemas.potential import DEEPMD


@dataclass
class DpaTrainMaker(FineTuneMaker):
    """Fine-tunes an ensemble of a pre-trained DPA model.

    Parameters
    ----------
    settings
        Base and its branch, steps, learning rate; the same for every model.

    Examples
    --------
    >>> from ionloop.codes.dpa import DpaSettings
    >>> settings = DpaSettings(base="DPA-3.pt", branch="Omat24", steps=2000)
    >>> maker = DpaTrainMaker(settings=settings, type_map=["Li", "S"], n_models=2)
    >>> [job.name for job in maker.make(dataset=[], seed=1).jobs]
    ['train model 1 of 2', 'train model 2 of 2', 'collect ensemble']
    """

    kind: ClassVar[str] = DEEPMD

    settings: DpaSettings = field(kw_only=True)
