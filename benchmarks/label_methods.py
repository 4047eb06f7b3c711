"""The ways to learn from few labels that `labels.py` compares."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from label_data import TYPE_MAP
from networks import SINGLE, SMALL, WIDE

from ionloop.codes import deepmd
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import DEEPMD, StoredFile


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
    core_seconds
        Processor time, or an estimate of it, of everything that made the models.
    notes
        Numbers to be kept beside the result, such as the error on the training frames.
    """

    kind: str
    models: list[StoredFile]
    settings: dict[str, Any]
    core_seconds: float
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


def processor_seconds() -> float:
    """Return the processor time of this process and of the programs that it has run, in s."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def student(order: Order, net: dict[str, Any] = SMALL) -> DeepmdSettings:
    """Return network and training of DeePMD-kit; its learning rates fit the steps."""
    network = SMALL if order.quick else net | SINGLE
    return DeepmdSettings(**network, steps=order.steps, force_prefactors=(1000.0, 10.0))


def from_scratch(
    order: Order, frames: Sequence[Frames], folder: Path, *, net: dict[str, Any] = SMALL
) -> Fitted:
    """Train DeePMD-kit's network on the labels alone."""
    settings = student(order, net)
    trained = deepmd.train(settings, frames, type_map=TYPE_MAP, seed=order.seed, folder=folder)
    notes = {"own_force": trained.train_errors.force_mev_per_angstrom}
    about = settings.model_dump(mode="json")
    return Fitted(DEEPMD, [trained.model], about, processor_seconds(), notes)


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
    about = tuner.model_dump(mode="json")
    return Fitted(tuner.kind, [trained.model], about, processor_seconds(), notes)


def distilled(
    order: Order,
    frames: Sequence[Frames],
    folder: Path,
    *,
    base: str,
    net: dict[str, Any] = SMALL,
) -> Fitted:
    """Train DeePMD-kit's network on what a fine-tuned ensemble says, and on the labels.

    Teachers and their lessons are the same for students of every length and network; they are made
    once, and the students that explore have the small network.

    Parameters
    ----------
    order, frames, folder
        As for every method.
    base
        Potential that the teachers begin with.
    net
        Network of the student in the end.
    """
    from label_distillation import LABEL_WEIGHT, Course, learn

    exploring = student(replace(order, steps=300 if order.quick else 6_000))
    course = Course(base, exploring, order.seed, order.quick)
    size = "quick" if order.quick else "full"
    place = folder.parents[1] / f"lessons-{size}-{base}-{order.n or 'all'}-{order.seed}"
    lessons = learn(course, frames, place)
    settings, begin = student(order, net), processor_seconds()
    groups = {LABEL_WEIGHT: frames, 1.0: lessons.frames}
    trained = deepmd.train(settings, groups, type_map=TYPE_MAP, seed=order.seed, folder=folder)
    seconds = lessons.core_seconds + processor_seconds() - begin
    notes = {"own_force": trained.train_errors.force_mev_per_angstrom, **lessons.notes}
    about = settings.model_dump(mode="json")
    return Fitted(DEEPMD, [trained.model], about, seconds, notes)


def tuning_steps(n: int) -> int:
    """Return the default number of steps of a fine-tuning on n frames."""
    return round(32 * math.pow(n, 0.4))


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


def of_teacher(
    title: str, base: str, seconds_per_step: float, net: dict[str, Any] = SMALL
) -> Method:
    """Return the method that distils an ensemble fine-tuned from a universal potential.

    Parameters
    ----------
    title
        Name in tables.
    base
        Potential that the teachers begin with.
    seconds_per_step
        Rough core seconds of a step of the longest training, with a part of the lessons.
    net
        Network of the student in the end.
    """
    return Method(
        title=title,
        fit=partial(distilled, base=base, net=net),
        ladder=lambda _: [20_000, 40_000, 80_000, 160_000],
        quick=lambda _: 4_000,
        seconds_per_step=seconds_per_step,
    )


SEVENNET = "ionloop.codes.sevennet.settings:SevennetSettings"
CHGNET = "ionloop.codes.chgnet.settings:ChgnetSettings"

METHODS: dict[str, Method] = {
    "scratch": Method(
        title="DeePMD from scratch",
        fit=from_scratch,
        ladder=lambda _: [20_000, 40_000, 80_000, 160_000],
        quick=lambda _: 4_000,
        seconds_per_step=0.036,
    ),
    "scratch-wide": Method(
        title="wide DeePMD from scratch",
        fit=partial(from_scratch, net=WIDE),
        ladder=lambda _: [20_000, 40_000, 80_000],
        quick=lambda _: 4_000,
        seconds_per_step=0.05,
    ),
    "7net-0": of_base("fine-tuned 7net-0", SEVENNET, "7net-0", 1.0),
    "7net-l3i5": of_base("fine-tuned 7net-l3i5", SEVENNET, "7net-l3i5", 3.0),
    "chgnet": of_base("fine-tuned CHGNet", CHGNET, "chgnet", 0.4),
    "distilled": of_teacher("DeePMD distilled from 7net-0", "7net-0", 0.05),
    "distilled-l3i5": of_teacher("DeePMD distilled from 7net-l3i5", "7net-l3i5", 0.1),
    "distilled-wide": of_teacher("wide DeePMD distilled from 7net-l3i5", "7net-l3i5", 0.15, WIDE),
}
