"""Settings of trainings with MACE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from ionloop.codes.common.training import Training
from ionloop.codes.finetuning.settings import SCRATCH, FineTuner
from ionloop.codes.finetuning.training import Task
from ionloop.codes.mace.server import VARIABLE, server
from ionloop.codes.mace.training import train
from ionloop.programs.environment import Command
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import StoredFile


class MaceSettings(FineTuner):
    """Training with MACE: fine-tuning of a local model, or a net from scratch.

    MACE trains whole epochs. A training has as many as come nearest to its steps, and at least one;
    frames that are replayed come on top. Loss: MACE's "universal", which is Huber's for energies
    per atom, forces below 100 eV/Å and stresses.
    """

    kind: ClassVar[str] = "mace"

    python: Command = f"${{{VARIABLE}}}"
    """command of the Python of MACE's environment, such as /opt/mace/bin/python; environment
    variables are put in"""
    base: str
    """.model file of MACE to begin with, or scratch for random weights"""
    head: str | None = None
    """head of a base with several; none: the first that is not for replay"""
    replay: str | None = None
    """file (extxyz) of frames with labels of the base's own level of theory, which are trained on
    beside the new ones in a head of their own, so that the model stays good elsewhere; none: it is
    trained on the new labels alone"""
    replay_frames: PositiveInt = 100
    """frames that each model draws from the replay file"""
    lora: PositiveInt | None = None
    """rank of low-rank changes of the weights, which are trained instead of the weights (LoRA);
    none: the weights themselves"""
    freeze: Annotated[int, Field(ge=0, le=6)] = 0
    """what stays as it is in the base, in MACE's numbers: from 1 the embedding, from 5 the
    interactions, from 6 the products too, so that only the readouts are trained"""
    channels: PositiveInt = 64
    """channels of a net from scratch"""
    max_l: NonNegativeInt = 0
    """largest angular momentum of the messages of a net from scratch"""
    layers: PositiveInt = 2
    """interaction layers of a net from scratch"""
    r_max: PositiveFloat = 5.0
    """cut-off radius in Å of a net from scratch"""
    dtype: Literal["float64", "float32"] = "float64"
    """precision of the weights"""
    learning_rate: PositiveFloat = 1e-3
    """learning rate of the first epoch; it falls exponentially to a hundredth in the last one"""
    rise_steps: NonNegativeInt = 0
    """only 0: the learning rate of MACE's command does not rise"""
    stress_weight: NonNegativeFloat = 0.0
    """weight of the stresses (in eV/Å³) in the loss; frames without a virial do not count"""

    @model_validator(mode="after")
    def _check_what_mace_does(self) -> Self:
        if self.rise_steps:
            raise ValueError("rise_steps: MACE's learning rate does not rise; leave it out")
        if self.base == SCRATCH:
            if self.steps is None:
                raise ValueError("steps: a training from scratch needs a number of steps")
            given = [key for key in ("replay", "lora", "freeze", "head") if getattr(self, key)]
            if given:
                raise ValueError(f"{given[0]}: a training from scratch has no base for it")
        if self.replay and self.warm_steps:
            raise ValueError(
                "warm_steps: with replay every training starts from the base, since MACE takes the "
                "reference energies of the replayed frames from the model that it starts from"
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
        frames = [frame for part in training for frame in part]
        held = [frame for part in validation for frame in part]
        return train(self, Task(frames, held, type_map, seed, folder, checkpoint, alone))

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of MACE, torch and e3nn, by name."""
        probed: Mapping[str, Any] = server(self.python, self.device).ask("probe")["versions"]
        return dict(probed)
