"""Training with DeePMD-kit: an ensemble of models that differ in their seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from ionloop.codes import deepmd
from ionloop.codes.common.training import Training
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.jobs.train.evaluation import evaluate_ensemble as evaluate_deepmd  # noqa: F401
from ionloop.jobs.train.members import EnsembleTrainMaker
from ionloop.jobs.train.members import train_members as train_deepmd  # noqa: F401
from ionloop.schemas.frames import Frames, divide
from ionloop.schemas.label import Labels
from ionloop.schemas.potential import DEEPMD, StoredFile

# The jobs' names in this module are those of runs whose documents have schema version 2.


@dataclass
class DeepmdTrainMaker(EnsembleTrainMaker):
    """Trains an ensemble of DeePMD-kit models.

    Parameters
    ----------
    settings
        Network, learning rates, steps; the same for every model.
    type_map
        Chemical symbols in the order of the models' types.
    n_models
        Models in the ensemble.
    min_models
        Models that must succeed for the turn to go on.
    validation_fraction
        Fraction of the frames held back from training, decided by trajectory for good.
    cores
        Cores of one training.
    per_gpu
        Trainings that one job runs at the same time on its GPU.
    label_weight
        How many times as often a label is drawn as one of a teacher.

    Examples
    --------
    >>> from ionloop.codes.deepmd.settings import DeepmdSettings
    >>> settings = DeepmdSettings(steps=100_000, rcut=5.0)
    >>> maker = DeepmdTrainMaker(settings=settings, type_map=["Li", "S"], n_models=3)
    >>> flow = maker.make(dataset=[], seed=1)
    >>> [job.name for job in flow.jobs]
    ['train model 1 of 3', 'train model 2 of 3', 'train model 3 of 3', 'collect ensemble']
    """

    kind: ClassVar[str] = DEEPMD

    settings: DeepmdSettings = field(default_factory=lambda: DeepmdSettings(steps=400_000))
    label_weight: float = 1.0

    def weighing(self, label_weight: float) -> DeepmdTrainMaker:
        """Return the Maker that draws labels so many times as often as those of a teacher.

        Parameters
        ----------
        label_weight
            How many times as often.
        """
        return replace(self, label_weight=label_weight)

    def weights(self, dataset: Sequence[Labels]) -> Mapping[str, float]:
        """Return the weights of the labels that no teacher gave, by the frames' ids.

        Parameters
        ----------
        dataset
            What is trained on.
        """
        if self.label_weight == 1 or not any(labels.level.is_teacher for labels in dataset):
            return {}
        bought = [labels for labels in dataset if not labels.level.is_teacher]
        return {
            frame_id: self.label_weight
            for labels in bought
            for part in labels.frames
            for frame_id in part.ids
        }

    def fit(
        self,
        training: Sequence[Frames],
        validation: Sequence[Frames],
        *,
        seed: int,
        folder: Path,
        checkpoint: StoredFile | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Training:
        """Train one model; see `EnsembleTrainMaker.fit`.

        Parameters
        ----------
        training, validation, seed, folder, checkpoint
            As for `EnsembleTrainMaker.fit`.
        weights
            How many times as often as others some frames are drawn, by the frames' ids.
        """
        return deepmd.train(
            self.settings,
            by_weight(training, weights) if weights else training,
            validation,
            type_map=self.type_map,
            seed=seed,
            folder=folder,
            checkpoint=checkpoint,
        )

    @property
    def backend(self) -> str:
        """DeePMD-kit's backend."""
        return self.settings.backend

    @property
    def versions(self) -> Mapping[str, str]:
        """Version of DeePMD-kit."""
        return {"deepmd-kit": deepmd.program_version(self.settings.command)}

    @property
    def starts_warm(self) -> bool:
        """Whether a training starts from the last turn's model where there is one."""
        return self.settings.warm_steps is not None


def by_weight(frames: Sequence[Frames], weights: Mapping[str, float]) -> dict[float, list[Frames]]:
    """Divide frames by their weight.

    Parameters
    ----------
    frames
        Frames to train on.
    weights
        Weights by the frames' ids; that of the others is 1.
    """
    ids: dict[float, set[str]] = {}
    for frame_id in (frame_id for part in frames for frame_id in part.ids):
        ids.setdefault(weights.get(frame_id, 1.0), set()).add(frame_id)
    return {weight: divide(frames, ids[weight])[0] for weight in sorted(ids)}
