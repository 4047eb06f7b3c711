"""What all codes share that fine-tune a universal potential."""

from __future__ import annotations

from ionloop.codes.finetuning.settings import FineTuner as FineTuner
