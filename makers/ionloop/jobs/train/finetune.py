"""Training by fine-tuning a universal potential."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ionloop.codes.common.training import Training
from ionloop.codes.finetuning.settings import FineTuner
from ionloop.jobs.train.members import EnsembleTrainMaker
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import StoredFile


@dataclass
class FineTuneMaker(EnsembleTrainMaker):
    """Fine-tunes an ensemble of a universal potential; the code is a matter of its settings.

    Parameters
    ----------
    settings
        Base, steps, learning rate; the same for every model.
    """

    n_models: int = 3
    settings: FineTuner = field(kw_only=True)

    def fit(
        self,
        training: Sequence[Frames],
        validation: Sequence[Frames],
        *,
        seed: int,
        folder: Path,
        checkpoint: StoredFile | None = None,
    ) -> Training:
        """Fine-tune one model; see `EnsembleTrainMaker.fit`.

        Parameters
        ----------
        training, validation, seed, folder, checkpoint
            As for `EnsembleTrainMaker.fit`.
        """
        return self.settings.train(
            training,
            validation,
            type_map=self.type_map,
            seed=seed,
            folder=folder,
            checkpoint=checkpoint,
            alone=self.n_models == 1,
        )

    @property
    def backend(self) -> str:
        """What trains."""
        return "pytorch"

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the programs that train, by name."""
        return self.settings.versions

    @property
    def starts_warm(self) -> bool:
        """Whether a training starts from the last turn's model where there is one."""
        return self.settings.warm_steps is not None
