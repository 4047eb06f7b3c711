"""What limits a trained model: its training, or its labels.

With more labels the error on frames held back from training falls and the error on the training
frames rises; for the same network, trained in the same way, both approach one value from the two
sides (Cortes et al., Adv. Neural Inf. Process. Syst. 6, 327, 1993). So labels can close the gap
between the two errors and no more, and what lies below the smaller one is a matter of the network
and of its training.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import sqrt

import numpy as np
from pydantic import Field

from ionloop.schemas.document import Model
from ionloop.schemas.potential import ForceErrors

GAP = 1.25
"""Held-back over training error above which the labels are the limit.

If both errors approach their mean, more labels of the same kind take at most 10 % off the held-back
error at this ratio. Twice the steps took 19 % off that of a network of 1,400 steps on published
frames of LGPS: below this ratio it is better to train.
"""

SCATTER = 0.4
"""Relative uncertainty of the held-back error, two standard deviations, from a single frame.

It falls with the square root of the number of frames. Force errors of small networks on published
frames of LGPS (50 atoms) gave 2 × (0.10 to 0.25) for frames of one exploration.
"""

FEWEST = 10
"""Held-back frames below which nothing is said: they are from one or two trajectories."""


class Limit(StrEnum):
    """What limits the error of a trained model."""

    TRAINING = "limited by training"
    DATA = "limited by data"
    BOTH = "limited by training and data alike"
    UNKNOWN = "not known what limits it"

    @property
    def word(self) -> str:
        """It in a column headed "limited by"; empty where it is not known."""
        return {"TRAINING": "training", "DATA": "data", "BOTH": "both"}.get(self.name, "")


class Learning(Model):
    """How the held-back error stands to that on the training frames."""

    limit: Limit
    ratio: float | None = None
    """held-back over training force error, each relative to the forces' own size"""
    uncertainty: float | None = None
    """of the ratio, relative, since the held-back frames are few"""
    n_held_back: int = Field(0)
    """held-back frames"""

    @property
    def sentence(self) -> str:
        """The finding in words, and what helps."""
        if self.ratio is None or self.uncertainty is None:
            return f"{self.limit}: {self._obstacle}"
        how = (
            f"the force error on the {self.n_held_back} held-back frames is {self.ratio:.2f} "
            f"(±{self.ratio * self.uncertainty:.2f}) times that on training frames"
        )
        return f"{self.limit}: {how}; {_HELPS[self.limit]}"

    @property
    def _obstacle(self) -> str:
        if not self.n_held_back:
            return "no frame was held back from training (train.validation_fraction)"
        if self.n_held_back < FEWEST:
            return f"{self.n_held_back} held-back frame(s) are too few, {FEWEST} are needed"
        return "forces or their errors are zero"


_HELPS = {
    Limit.TRAINING: "more steps or a larger network help, more labels hardly",
    Limit.DATA: "more labels help, or a better start such as a universal potential",
    Limit.BOTH: "more steps and more labels both help",
}


def learning(training: Sequence[ForceErrors], held_back: Sequence[ForceErrors]) -> Learning:
    """Judge what limits an ensemble.

    The ratio of the two errors is compared with `GAP`; where it lies within its uncertainty of
    `GAP`, both limit. Each error is divided by the size of the forces that it is of, because the
    held-back frames may be hotter or cooler than the others.

    Parameters
    ----------
    training
        Errors of each model on the frames that it was trained on.
    held_back
        Errors of each model on the frames held back; empty if there are none.

    Returns
    -------
    Learning
        `Limit.UNKNOWN` where fewer than `FEWEST` frames were held back, or where forces or errors
        are zero.
    """
    n = min((each.n_frames for each in held_back), default=0)
    own, other = (_relative_error(errors) for errors in (training, held_back))
    if n < FEWEST or not (own and other):
        return Learning(limit=Limit.UNKNOWN, n_held_back=n)
    ratio, uncertainty = other / own, SCATTER / sqrt(n)
    limit = Limit.BOTH
    if ratio * (1 + uncertainty) < GAP:
        limit = Limit.TRAINING
    elif ratio * (1 - uncertainty) > GAP:
        limit = Limit.DATA
    return Learning(limit=limit, ratio=ratio, uncertainty=uncertainty, n_held_back=n)


def _relative_error(errors: Sequence[ForceErrors]) -> float:
    """Return the mean force error over the models, over the forces' own size; 0 without any."""
    sized = [each for each in errors if each.force_rms_mev_per_angstrom]
    parts = [e.force_mev_per_angstrom / e.force_rms_mev_per_angstrom for e in sized]
    return float(np.mean(parts)) if parts else 0.0
