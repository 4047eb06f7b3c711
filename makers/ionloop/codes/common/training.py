"""The result of a training, whichever program trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ionloop.schemas.errors import IonloopError
from ionloop.schemas.potential import Base, ForceErrors, StoredFile
from ionloop.schemas.table import Table


class TrainingError(IonloopError, RuntimeError):
    """A training failed; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Training:
    """A trained model.

    Parameters
    ----------
    model
        Model file for inference.
    checkpoint
        File from which the next training can start.
    learning_curve
        Column `step`, and what the program reports of errors and learning rate at these steps.
        Errors are per atom in eV (energy, virial) and in eV/Å (forces).
    train_errors, validation_errors
        Errors of the delivered model on all frames that it was trained on, and on those that were
        held back.
    steps
        Steps trained.
    warm_start
        Whether it started from the checkpoint that was given.
    obstacle
        Why it did not, though it was to.
    seconds
        Wall time.
    base
        Universal potential that it was fine-tuned from; None for a training from scratch.
    type_map
        Chemical symbols in the order of the model's types, where they are not those of the run.
    """

    model: StoredFile
    checkpoint: StoredFile
    learning_curve: Table
    train_errors: ForceErrors
    validation_errors: ForceErrors | None
    steps: int
    warm_start: bool
    obstacle: str
    seconds: float
    base: Base | None = None
    type_map: Sequence[str] = ()
