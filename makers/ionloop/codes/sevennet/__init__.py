"""SevenNet: fine-tuning and prediction."""

from __future__ import annotations
