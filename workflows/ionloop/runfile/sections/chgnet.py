"""The section of ensembles of fine-tuned CHGNet models."""

from __future__ import annotations

from typing import Literal

from ionloop.codes.chgnet.settings import ChgnetSettings
from ionloop.jobs.train.chgnet import ChgnetTrainMaker
from ionloop.runfile.sections.finetune import TorchFineTuneSection


class ChgnetSection(ChgnetSettings, TorchFineTuneSection):
    """An ensemble of fine-tuned CHGNet models."""

    settings_type = ChgnetSettings
    maker_type = ChgnetTrainMaker

    code: Literal["chgnet"] = "chgnet"
    """CHGNet"""
