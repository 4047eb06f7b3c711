"""Settings of a training that begins with a universal potential."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ionloop.codes.common.prediction import Prediction
from ionloop.codes.common.training import Training
from ionloop.codes.finetuning.references import check_forces, check_residual, fit_references
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import StoredFile

SCRATCH = "scratch"
"""Name of the base of a training that begins with random weights."""


class FineTuner(Model, ABC):
    """How a universal potential is fine-tuned.

    The defaults are those that worked for 7net-0 on 10 to 100 labels of LGPS. Every training first
    fits the reference energies of the elements to the labels.
    """

    kind: ClassVar[str]
    """kind of the potentials that it makes"""

    base: str
    """potential to begin with: a name that the package knows, the path of a local file, or scratch
    for random weights"""
    device: str = "cpu"
    """device of torch: cpu, cuda, cuda:1, …"""
    steps: PositiveInt | None = None
    """optimiser steps of a training from the base; none: 32 * N^0.4 for N frames, such as 80 for 10
    and 200 for 100"""
    warm_steps: PositiveInt | None = None
    """steps of a training that starts from the last turn's model; none: every training starts from
    the base"""
    learning_rate: PositiveFloat = 1e-3
    """largest learning rate; it rises in the first steps and falls to zero on a cosine"""
    warm_learning_rate: PositiveFloat = 5e-4
    """the same for a training that starts from the last turn's model"""
    rise_steps: NonNegativeInt = 20
    """steps in which the learning rate rises to its largest"""
    batch_size: PositiveInt = 1
    """frames per step"""
    energy_weight: NonNegativeFloat = 1.0
    """weight of the energies per atom in the loss"""
    force_weight: NonNegativeFloat = 1.0
    """weight of the forces in the loss"""
    stress_weight: NonNegativeFloat = 0.0
    """weight of the stresses (in GPa) in the loss; frames without a virial do not count"""
    check_every: PositiveInt = 20
    """steps between comparisons with the held-back frames, and between checkpoints"""
    patience: PositiveInt | None = None
    """comparisons without a smaller error on the held-back frames after which the training stops;
    none: it runs to its end. In any case the best model that was compared is kept"""
    bootstrap: bool = True
    """draw the frames of each model anew from all frames, with repetition, so that models differ;
    a single model is trained on all frames"""
    readout_noise: NonNegativeFloat = 0.05
    """random change of the last layer's weights at the start, as a fraction of their spread, so
    that models differ; a single model has none"""
    max_residual: PositiveFloat = 0.1
    """largest root-mean-square difference in eV/atom between labels and base after the reference
    energies were fitted; above it, the labels are of another kind than the base knows"""
    max_force_ratio: PositiveFloat = 1.5
    """largest error of the base's forces before the training, divided by the forces of labels or
    base, whichever are smaller (all as root mean square); above it, the labels are in other units,
    have the other sign, or are of another kind than the base knows"""

    def training_steps(self, n_frames: int, warm: bool) -> int:
        """Return the number of steps of a training.

        Parameters
        ----------
        n_frames
            Frames that are trained on.
        warm
            Whether it starts from the last turn's model.
        """
        if warm and self.warm_steps:
            return self.warm_steps
        return self.steps or round(32 * n_frames**0.4)

    def check_labels(
        self, frames: Sequence[Frames], predictions: Sequence[Prediction], base: str
    ) -> None:
        """Check that the labels are of a kind that the base knows.

        Parameters
        ----------
        frames
            Labelled frames.
        predictions
            What the base predicts for each entry of `frames`.
        base
            Its name, for the message.

        Raises
        ------
        InputError
            If energies or forces differ by more than the settings allow.
        """
        fit = fit_references(frames, [each.energies[0] for each in predictions])
        check_residual(fit, self.max_residual, base)
        check_forces(frames, predictions, self.max_force_ratio, base)

    @abstractmethod
    def train(
        self,
        training: Sequence[Frames],
        validation: Sequence[Frames] = (),
        *,
        type_map: Sequence[str],
        seed: int,
        folder: Path,
        checkpoint: StoredFile | None = None,
        alone: bool = False,
    ) -> Training:
        """Train one model; one that was interrupted in the folder continues there.

        Parameters
        ----------
        training, validation
            Labelled frames.
        type_map
            Chemical symbols that the model must know.
        seed
            Seed of the order of the frames, of the bootstrap and of the readout's change.
        folder
            Where checkpoints and logs go.
        checkpoint
            Model of the last turn, to start from if `warm_steps` is set.
        alone
            Whether it is the only model: then it has no bootstrap and no readout noise.

        Raises
        ------
        InputError
            If the base lacks an element or does not fit the labels, or the device is absent.
        TrainingError
            If the training breaks down.
        """

    @property
    @abstractmethod
    def versions(self) -> Mapping[str, str]:
        """Versions of the programs that train, by name."""
