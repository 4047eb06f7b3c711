"""The ways to learn from few labels that `labels.py` compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from label_data import TYPE_MAP

from ionloop.codes import deepmd
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import DEEPMD, StoredFile

QUICK_NET = {"rcut": 5.0, "neurons": [10, 20, 40], "axis_neurons": 8, "fitting": [64, 64, 64]}
FULL_NET = {"rcut": 6.0, "neurons": [20, 40, 80], "axis_neurons": 16, "fitting": [100, 100, 100]}
"""Networks of the student: for a table within minutes, and for the results page."""


@dataclass(frozen=True)
class Order:
    """One training.

    Parameters
    ----------
    method
        Key of `METHODS`.
    n
        Number of labels; None: the whole pool.
    seed
        Seed of the pick and of the training.
    steps
        Length of the training, as the method counts it.
    quick
        Whether networks are small and everything is short.
    """

    method: str
    n: int | None
    seed: int
    steps: int
    quick: bool = False


@dataclass(frozen=True)
class Fitted:
    """What a method made of its labels.

    Parameters
    ----------
    kind
        Kind of the potential.
    models
        Its model files; of several, the mean is judged.
    settings
        What decided the training.
    notes
        Numbers to be kept beside the result, such as the error on the training frames.
    """

    kind: str
    models: list[StoredFile]
    settings: dict[str, Any]
    notes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A way to learn from labels.

    Parameters
    ----------
    title
        Its name in tables.
    fit
        Trains: order, labelled frames, folder.
    ladder
        Lengths of the training that are tried one after the other, as long as more helps, for a
        number of frames.
    quick
        Length for the quick table, for a number of frames.
    seconds_per_step
        Rough core seconds of a step; what the quick table needs is a fraction.
    """

    title: str
    fit: Callable[[Order, Sequence[Frames], Path], Fitted]
    ladder: Callable[[int], list[int]]
    quick: Callable[[int], int]
    seconds_per_step: float

    def lengths(self, n: int, quick: bool) -> list[int]:
        """Return the lengths of training to try with n frames."""
        return [self.quick(n)] if quick else self.ladder(n)


def student(order: Order) -> DeepmdSettings:
    """Return network and training of DeePMD-kit; its learning rates fit the steps."""
    net: dict[str, Any] = QUICK_NET if order.quick else FULL_NET
    return DeepmdSettings(**net, steps=order.steps, force_prefactors=(1000.0, 10.0))


def from_scratch(order: Order, frames: Sequence[Frames], folder: Path) -> Fitted:
    """Train DeePMD-kit's network on the labels alone."""
    settings = student(order)
    trained = deepmd.train(settings, frames, type_map=TYPE_MAP, seed=order.seed, folder=folder)
    notes = {"own_force": trained.train_errors.force_mev_per_angstrom}
    return Fitted(DEEPMD, [trained.model], settings.model_dump(mode="json"), notes)


def fine_tuned(
    order: Order, frames: Sequence[Frames], folder: Path, *, settings: str, base: str
) -> Fitted:
    """Fine-tune a universal potential on the labels.

    Parameters
    ----------
    order, frames, folder
        As for every method.
    settings
        Import path of the settings.
    base
        Potential to begin with.
    """
    tuner = resolve_name(settings)(base=base, steps=order.steps)
    trained = tuner.train(frames, type_map=TYPE_MAP, seed=order.seed, folder=folder, alone=True)
    notes = {"own_force": trained.train_errors.force_mev_per_angstrom}
    return Fitted(tuner.kind, [trained.model], tuner.model_dump(mode="json"), notes)


def tuning_steps(n: int) -> int:
    """Return the default number of steps of a fine-tuning on n frames."""
    return round(32 * float(n) ** 0.4)


def of_base(title: str, settings: str, base: str, seconds_per_step: float) -> Method:
    """Return the method that fine-tunes a universal potential.

    Parameters
    ----------
    title
        Name in tables.
    settings
        Import path of the settings.
    base
        Potential to begin with.
    seconds_per_step
        Rough core seconds of a step.
    """
    return Method(
        title=title,
        fit=partial(fine_tuned, settings=settings, base=base),
        ladder=lambda n: [factor * tuning_steps(n) for factor in (1, 2, 4)],
        quick=lambda n: tuning_steps(n) // 2,
        seconds_per_step=seconds_per_step,
    )


SEVENNET = "ionloop.codes.sevennet.settings:SevennetSettings"
CHGNET = "ionloop.codes.chgnet.settings:ChgnetSettings"

METHODS: dict[str, Method] = {
    "scratch": Method(
        title="DeePMD from scratch",
        fit=from_scratch,
        ladder=lambda _: [8_000, 20_000, 40_000, 80_000],
        quick=lambda _: 4_000,
        seconds_per_step=0.036,
    ),
    "7net-0": of_base("fine-tuned 7net-0", SEVENNET, "7net-0", 1.0),
    "7net-l3i5": of_base("fine-tuned 7net-l3i5", SEVENNET, "7net-l3i5", 3.0),
    "chgnet": of_base("fine-tuned CHGNet", CHGNET, "chgnet", 0.4),
}
