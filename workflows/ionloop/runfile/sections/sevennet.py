"""The section of ensembles of fine-tuned SevenNet models."""

from __future__ import annotations

from typing import Literal

from ionloop.codes.sevennet.settings import SevennetSettings
from ionloop.jobs.train.sevennet import SevennetTrainMaker
from ionloop.runfile.sections.finetune import TorchFineTuneSection


class SevennetSection(SevennetSettings, TorchFineTuneSection):
    """An ensemble of fine-tuned SevenNet models."""

    settings_type = SevennetSettings
    maker_type = SevennetTrainMaker

    code: Literal["sevennet"] = "sevennet"
    """SevenNet"""
