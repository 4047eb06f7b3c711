"""Settings of fine-tunings of DPA models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import NonNegativeFloat, PositiveInt, model_validator

from ionloop.codes.common.training import Training
from ionloop.codes.deepmd.program import program_version
from ionloop.codes.dpa.training import Task, fine_tune
from ionloop.codes.finetuning.settings import SCRATCH, FineTuner
from ionloop.programs.environment import Command
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import DEEPMD, StoredFile


class DpaSettings(FineTuner):
    """How a pre-trained DPA model of DeePMD-kit is fine-tuned.

    DeePMD-kit fits the reference energies, with its backend for PyTorch. All elements of the base
    stay in the training; the model that is delivered knows those of the run.
    """

    kind: ClassVar[str] = DEEPMD

    command: Command = "dp"
    """how DeePMD-kit is started, e.g. 'dp' or 'srun dp'"""
    base: str
    """checkpoint (.pt) of a DPA model on this machine; nothing is downloaded"""
    branch: str | None = None
    """branch (head) of a base with several, such as Omat24 or its alias; RANDOM: the descriptor of
    the base with a new fitting net"""
    freeze: Literal["none", "descriptor"] = "none"
    """weights that stay as the base has them; descriptor: only the fitting net is trained"""
    lora: PositiveInt | None = None
    """rank of low-rank changes of the weights, which are trained instead of the weights (LoRA);
    DPA-4 only; none: the weights themselves"""
    stress_weight: NonNegativeFloat = 0.0
    """weight of the virials per atom (in eV) in the loss; frames without a virial do not count"""

    @model_validator(mode="after")
    def _check_base(self) -> Self:
        if self.base == SCRATCH:
            raise ValueError(
                "base: a DPA model from scratch is trained by code: deepmd, with backend: pytorch "
                "and its `model` dictionary as model"
            )
        return self

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
        """Train one model; see `FineTuner.train`.

        Parameters
        ----------
        training, validation, type_map, seed, folder, checkpoint, alone
            As for `FineTuner.train`.
        """
        task = Task(training, validation, type_map, seed, folder, checkpoint, alone)
        return fine_tune(self, task)

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of DeePMD-kit and of torch.

        Raises
        ------
        MissingProgramError
            If DeePMD-kit is not there.
        """
        return {
            "deepmd-kit": program_version(self.command),
            "torch": metadata.version("torch"),
        }
