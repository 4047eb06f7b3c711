"""Fine-tune a potential in this process, with torch."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes import potentials
from ionloop.codes.common.ase import without_known_warnings
from ionloop.codes.common.prediction import Prediction, force_errors
from ionloop.codes.common.threads import use_one_thread
from ionloop.codes.common.training import Training, TrainingError
from ionloop.codes.finetuning.checkpoint import (
    FILES,
    SCRIPT,
    State,
    curve_of,
    read_state,
)
from ionloop.codes.finetuning.device import check_device
from ionloop.codes.finetuning.examples import Example, examples
from ionloop.codes.finetuning.loop import MOST_COMPARED, Loop, Plan, spread
from ionloop.codes.finetuning.net import Net
from ionloop.codes.finetuning.references import drift, fit_references
from ionloop.codes.finetuning.schedule import drawn
from ionloop.programs.resume_marker import clear_unless_same_work
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames, symbols_of
from ionloop.schemas.potential import Base, ForceErrors, StoredFile

if TYPE_CHECKING:
    from ionloop.codes.finetuning.torch_settings import TorchFineTuner

SAME_FORCES = 1e-4
"""Largest difference in eV/Å between a model in memory and the file that it was written to."""

FRAMES_TO_COMPARE = 3
"""Frames on which the two are compared."""


@dataclass(frozen=True)
class Task:
    """One training.

    Parameters
    ----------
    training, validation
        Labelled frames, each Frames of one.
    type_map
        Chemical symbols that the model must know.
    seed
        Seed of everything that is random.
    folder
        Where it works.
    checkpoint
        Model of the last turn, to start from; None to start from the base.
    alone
        Whether it is the only model: then it has no bootstrap and no readout noise.
    """

    training: Sequence[Frames]
    validation: Sequence[Frames]
    type_map: Sequence[str]
    seed: int
    folder: Path
    checkpoint: StoredFile | None
    alone: bool


def fine_tune(settings: TorchFineTuner, task: Task) -> Training:
    """Train one model; one that was interrupted in the folder continues there.

    Parameters
    ----------
    settings
        Base, steps, learning rate.
    task
        The frames, and what sets this model apart.

    Raises
    ------
    InputError
        If the base lacks an element or does not fit the labels, or the device is absent.
    TrainingError
        If the training breaks down, or the model that was written is not that in memory.
    """
    started = time.monotonic()
    if not task.training:
        raise InputError("there is no frame to train on")
    check_device(settings.device, "train.device")
    use_one_thread()
    task.folder.mkdir(parents=True, exist_ok=True)
    with without_known_warnings():
        net, warm, obstacle = _start(settings, task)
        state, learned, held = _learn(settings, task, net, warm)
        model = StoredFile(settings.model_name, net.to_bytes())
        train_errors = _errors(net, learned)
        validation_errors = _errors(net, held) if held else None
    check_written(settings, net, model, [*learned, *held], task.folder)
    return Training(
        model=model,
        checkpoint=model,
        learning_curve=curve_of(state),
        train_errors=train_errors,
        validation_errors=validation_errors,
        steps=state.step,
        warm_start=warm,
        obstacle=obstacle,
        seconds=time.monotonic() - started,
        base=base_of(net),
    )


def _start(settings: TorchFineTuner, task: Task) -> tuple[Net, bool, str]:
    """Return the net to begin with, whether it is that of the last turn, and why not."""
    obstacle = ""
    if task.checkpoint is not None and settings.warm_steps:
        path = task.checkpoint.write(task.folder, f"warm-{task.checkpoint.name}")
        net = settings.open(path)
        obstacle = obstacle_to(net.about, settings.identity(task.type_map))
        if not obstacle:
            return net, True, ""
    net = settings.new_net(task.type_map, task.training, task.seed)
    settings.check_elements(net.elements, [*task.type_map, *symbols_of(task.training)])
    return net, False, obstacle


def obstacle_to(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say why a model of the last turn is not one to continue with; empty if it is.

    Parameters
    ----------
    found
        What the model of the last turn began with.
    wanted
        What the settings begin with.
    """
    keys = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    if not keys:
        return ""
    parts = [f"{key} was {found.get(key)}, now it is {wanted.get(key)}" for key in keys]
    return f"the model of the last turn began otherwise: {'; '.join(parts)}"


def _learn(
    settings: TorchFineTuner, task: Task, net: Net, warm: bool
) -> tuple[State, list[Example], list[Example]]:
    """Train the net, from where an earlier attempt at the same was interrupted.

    Returns
    -------
    tuple
        The last state, the examples that were trained on, and those held back.
    """
    picks = drawn(len(task.training), task.seed, settings.bootstrap and not task.alone).tolist()
    numbers = sorted(set(picks))
    learned = examples(net, [task.training[number] for number in numbers])
    held = examples(net, task.validation)
    steps = settings.training_steps(len(task.training), warm)
    _mark_folder(settings, task, net, steps)
    net.freeze(settings.frozen_blocks(len(net.blocks) - 1))
    rate = settings.warm_learning_rate if warm else settings.learning_rate
    loop = Loop(
        settings,
        net,
        [learned[numbers.index(pick)] for pick in picks],
        held,
        Plan(steps, rate, task.seed, task.folder),
    )
    state = read_state(task.folder)
    if state is None:
        state = loop.begin(*_prepare(settings, task, net, learned))
    else:
        loop.resume(state)
    loop.run(state)
    loop.finish(state)
    _take_off_drift(net, spread(learned, MOST_COMPARED))
    return state, learned, held


def _mark_folder(settings: TorchFineTuner, task: Task, net: Net, steps: int) -> None:
    """Clear the folder unless the same training was begun there, and say what is done there."""
    script = {"training": {"numb_steps": steps}, "settings": settings.model_dump(mode="json")}
    clear_unless_same_work(task.folder, FILES, _inputs(settings, task, net, script))
    (task.folder / SCRIPT).write_text(json.dumps(script, indent=2))


def _inputs(
    settings: TorchFineTuner, task: Task, net: Net, script: Mapping[str, Any]
) -> Iterator[bytes]:
    """Yield all that the training depends on."""
    about = [script, dict(settings.versions), net.about, list(task.type_map)]
    yield json.dumps([*about, task.seed, task.alone], sort_keys=True).encode()
    yield task.checkpoint.content if task.checkpoint else b""
    for frames in (task.training, task.validation):
        yield json.dumps([frame.pack() for frame in frames]).encode()


def _prepare(
    settings: TorchFineTuner, task: Task, net: Net, learned: Sequence[Example]
) -> tuple[float, float]:
    """Change the readout and fit the reference energies, before the first step.

    Returns
    -------
    tuple
        Root-mean-square errors on the frames to train on, in eV/atom and eV/Å.
    """
    if settings.readout_noise and not task.alone:
        change_readout(net, settings.readout_noise, task.seed)
    frames = [each.frame for each in learned]
    predictions = [net.predict(each.frame, [each.graph]) for each in learned]
    fit = fit_references(frames, [prediction.energies[0] for prediction in predictions])
    if not settings.from_scratch:
        settings.check_labels(frames, predictions, settings.base)
    net.shift_energies(fit.shifts)
    return fit.residual, force_errors(predictions, frames).force_mev_per_angstrom / 1000


def change_readout(net: Net, fraction: float, seed: int) -> None:
    """Change the last layer's weights at random, by a fraction of their standard deviation.

    Parameters
    ----------
    net
        The potential.
    fraction
        Size of the change.
    seed
        Seed of the change.
    """
    import torch

    weights = net.readout
    noise = np.random.default_rng([seed, 0]).standard_normal(tuple(weights.shape))
    with torch.no_grad():
        weights.add_(fraction * weights.std() * torch.tensor(noise).to(weights))


def _take_off_drift(net: Net, known: Sequence[Example]) -> None:
    """Move the zero of the energies to that of the labels, from which short trainings drift."""
    frames = [each.frame for each in known]
    predictions = [net.predict(each.frame, [each.graph]) for each in known]
    net.shift_energies(dict.fromkeys(symbols_of(frames), drift(frames, predictions)))


def _errors(net: Net, compared: Sequence[Example]) -> ForceErrors:
    predictions = [net.predict(each.frame, [each.graph]) for each in compared]
    if not all(prediction.is_finite for prediction in predictions):
        raise TrainingError(
            "the trained model gives energies or forces that are not finite; lower "
            "train.learning_rate"
        )
    return force_errors(predictions, [each.frame for each in compared])


def check_written(
    settings: TorchFineTuner,
    net: Net,
    model: StoredFile,
    known: Sequence[Example],
    folder: Path,
) -> None:
    """Compare a model file, as others will read it, with the model in memory.

    Parameters
    ----------
    settings
        What knows how such files are read.
    net
        The model in memory.
    model
        The file.
    known
        Examples, of which a few are compared.
    folder
        Where the file is written.

    Raises
    ------
    TrainingError
        If they differ.
    """
    path = model.write(folder, f"model-written-{model.name}")
    calculator = potentials.calculator(settings.kind, path, settings.device)
    for example in spread(known, FRAMES_TO_COMPARE):
        read = potentials.predict_with(calculator, example.frame)
        largest = _difference(read, net.predict(example.frame, [example.graph]))
        if not largest <= SAME_FORCES:
            raise TrainingError(
                f"the model file gives forces that differ by {largest:.3g} eV/Å from those of the "
                "model that was trained: the package that reads it changes the weights; "
                f"install the versions that were tested ({dict(settings.versions)} is here)"
            )


def _difference(first: Prediction, second: Prediction) -> float:
    return float(np.abs(first.forces - second.forces).max())


def base_of(net: Net) -> Base | None:
    """Return the universal potential that a net began with; None if it began from scratch."""
    sha256 = net.about.get("sha256")
    return Base(name=net.about["base"], sha256=sha256) if sha256 else None
