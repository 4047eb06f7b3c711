"""Training with MACE, in an environment of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ionloop.codes.mace.settings import MaceSettings
from ionloop.jobs.train.finetune import FineTuneMaker


@dataclass
class MaceTrainMaker(FineTuneMaker):
    """Trains an ensemble of MACE models: fine-tuned from a local model, or from scratch.

    Parameters
    ----------
    settings
        Base, steps, learning rate, and the Python of MACE's environment; the same for every model.

    Examples
    --------
    >>> from ionloop.codes.mace import MaceSettings
    >>> settings = MaceSettings(base="mace-mp-0b3-medium.model", python="/opt/mace/bin/python")
    >>> maker = MaceTrainMaker(settings=settings, type_map=["Li", "S"], n_models=2)
    >>> [job.name for job in maker.make(dataset=[], seed=1).jobs]
    ['train model 1 of 2', 'train model 2 of 2', 'collect ensemble']
    """

    kind: ClassVar[str] = MaceSettings.kind

    settings: MaceSettings = field(kw_only=True)
