"""Training with DeePMD-kit: an ensemble of models that differ in their seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ionloop.codes import deepmd
from ionloop.codes.common.training import Training
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.jobs.train.evaluation import evaluate_ensemble as evaluate_deepmd  # noqa: F401
from ionloop.jobs.train.members import EnsembleTrainMaker
from ionloop.jobs.train.members import train_members as train_deepmd  # noqa: F401
from ionloop.schemas.frames import Frames
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

    def fit(
        self,
        training: Sequence[Frames],
        validation: Sequence[Frames],
        *,
        seed: int,
        folder: Path,
        checkpoint: StoredFile | None = None,
    ) -> Training:
        """Train one model; see `EnsembleTrainMaker.fit`.

        Parameters
        ----------
        training, validation, seed, folder, checkpoint
            As for `EnsembleTrainMaker.fit`.
        """
        return deepmd.train(
            self.settings,
            training,
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
