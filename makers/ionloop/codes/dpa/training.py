"""Fine-tune a DPA model with DeePMD-kit's command, and deliver it with the run's elements.

`dp --pt train input.json --finetune base.pt` first adds to the energies of the elements what a
least-squares fit of the labels asks for, the solution of minimum norm where compositions do not
determine it (`change-by-statistic`), and then trains. The base that it gets is written here: one
branch, its readout changed at random. What was trained keeps all elements of the base, for the
next turn; the frozen model that is delivered knows those of the run.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ionloop.codes.common.training import Training, TrainingError
from ionloop.codes.deepmd.checkpoint import latest_checkpoint
from ionloop.codes.deepmd.data import Systems, check_labels, write_systems
from ionloop.codes.deepmd.prediction import predict
from ionloop.codes.deepmd.training import finite_curve, model_errors
from ionloop.codes.dpa.delivery import best_checkpoint, merged, sliced
from ionloop.codes.dpa.inputs import VALIDATION, input_script, model_section
from ionloop.codes.dpa.pretrained import (
    RANDOM,
    Pretrained,
    check_elements,
    check_lora,
    read_base,
    read_trained,
)
from ionloop.codes.dpa.program import check_environment, run
from ionloop.codes.finetuning.schedule import drawn
from ionloop.programs.log import end_of_log, last_lines
from ionloop.programs.resume_marker import clear_unless_same_work
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames, concatenate, symbols_of
from ionloop.schemas.potential import ForceErrors, StoredFile

if TYPE_CHECKING:
    from ionloop.codes.dpa.settings import DpaSettings

CHECKPOINT = "checkpoint.pt"
"""Name of the file from which the next turn's training can start."""

SAME_FORCES = 1e-3
"""Largest difference in eV/Å between the model that was trained and the one that is delivered."""

DATA = ("training", "validation")

TRAINED = "trained"
"""Marks a folder whose training has ended."""

RESULTS = (
    *("model.ckpt*", "best.ckpt*", "checkpoint", "lcurve.out", VALIDATION, "model*.pt*"),
    *("start.pt", "sliced.pt", TRAINED),
)

MOST_COMPARED = 100
"""Frames on which labels and base are compared: the residual needs no more."""


@dataclass(frozen=True)
class Task:
    """One training.

    Parameters
    ----------
    training, validation
        Labelled frames.
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


@dataclass(frozen=True)
class _Start:
    """Where a training begins."""

    model: Pretrained
    warm: bool = False
    obstacle: str = ""


def fine_tune(settings: DpaSettings, task: Task) -> Training:
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
    MissingProgramError
        If DeePMD-kit is not there, or was built for another PyTorch.
    TrainingError
        If the training breaks down.
    """
    started = time.monotonic()
    if not sum(map(len, task.training)):
        raise InputError("there is no frame to train on")
    check_environment(settings)
    task.folder.mkdir(parents=True, exist_ok=True)
    start = _starting_point(settings, task)
    learned = _drawn_frames(settings, task)
    planned = settings.training_steps(sum(map(len, task.training)), start.warm)
    _write_input(settings, task, start, learned, planned)
    steps = _learn(settings, task, start)
    curve = finite_curve(task.folder)
    checkpoint, model = _delivered(settings, task, start, learned)
    return Training(
        model=model,
        checkpoint=checkpoint,
        learning_curve=curve,
        train_errors=model_errors(model, concatenate(task.training), task.folder),
        validation_errors=_held_back_errors(model, task),
        steps=steps,
        warm_start=start.warm,
        obstacle=start.obstacle,
        seconds=time.monotonic() - started,
        base=start.model.base,
        type_map=start.model.type_map if start.model.is_dpa4 else (),
    )


def _starting_point(settings: DpaSettings, task: Task) -> _Start:
    """Return the model of the last turn if it can be used, and otherwise the base, and why."""
    base = read_base(Path(settings.base), settings.branch)
    check_elements(base.type_map, [*task.type_map, *symbols_of(task.training)], settings.base)
    check_lora(base, settings.lora)
    if not (task.checkpoint and settings.warm_steps):
        return _Start(base)
    if task.checkpoint.name != CHECKPOINT:
        return _Start(base, obstacle="the model of the last turn is no DPA model")
    earlier = read_trained(task.checkpoint.write(task.folder, f"warm-{CHECKPOINT}"))
    if (earlier.base, earlier.branch) != (base.base, base.branch):
        was = f"{earlier.base.name} ({earlier.branch or 'no branch'})"
        return _Start(base, obstacle=f"it was fine-tuned from another base or branch, {was}")
    return _Start(earlier, warm=True)


def _drawn_frames(settings: DpaSettings, task: Task) -> list[Frames]:
    """Return the frames that this model is trained on, some of them several times."""
    frames = concatenate(task.training)
    bounds = np.cumsum([0, *map(len, frames)])
    picks = np.sort(drawn(int(bounds[-1]), task.seed, settings.bootstrap and not task.alone))
    parts = (
        part[picks[(picks >= first) & (picks < last)] - first]
        for part, first, last in zip(frames, bounds, bounds[1:], strict=False)
    )
    return [part for part in parts if len(part)]


def _write_input(
    settings: DpaSettings, task: Task, start: _Start, learned: Sequence[Frames], steps: int
) -> None:
    for name in DATA:
        shutil.rmtree(task.folder / name, ignore_errors=True)
    type_map = start.model.type_map
    check_labels(learned, type_map)
    systems = Systems(
        training=write_systems(learned, task.folder / "training", type_map),
        validation=write_systems(task.validation, task.folder / "validation", type_map),
        has_virials=any(part.virials is not None for part in learned),
    )
    model = model_section(start.model.params, settings, task.seed)
    script = input_script(settings, model, systems, steps=steps, warm=start.warm)
    (task.folder / "input.json").write_text(json.dumps(script, indent=2))


def _learn(settings: DpaSettings, task: Task, start: _Start) -> int:
    """Train, from where an earlier attempt at the same was interrupted; return the steps."""
    folder = task.folder
    clear_unless_same_work(folder, RESULTS, _inputs(settings, task, start))
    if (folder / TRAINED).exists():
        return int((folder / TRAINED).read_text())
    interrupted = latest_checkpoint(folder)
    if interrupted:
        origin = ["--restart", interrupted.name]
    else:
        origin = ["--finetune", _prepared(settings, task, start)]
        origin += ["--model-branch", RANDOM] if _is_random(start) else []
    through = run(settings, ["train", "--skip-neighbor-stat", "input.json", *origin], folder)
    if latest_checkpoint(folder) is None:
        raise TrainingError(f"the training left no checkpoint{last_lines(folder / 'train.log')}")
    planned = json.loads((folder / "input.json").read_text())["training"]["numb_steps"]
    steps = planned if through else int(finite_curve(folder)["step"][-1])
    (folder / f"{TRAINED}.part").write_text(str(steps))
    (folder / f"{TRAINED}.part").replace(folder / TRAINED)
    return steps


def _inputs(settings: DpaSettings, task: Task, start: _Start) -> Iterator[bytes]:
    """Yield all that the training depends on."""
    about = [start.model.base.sha256, start.model.branch, settings.readout_noise, task.alone]
    yield json.dumps([*about, settings.patience, task.seed]).encode()
    yield task.checkpoint.content if start.warm and task.checkpoint else b""
    yield (task.folder / "input.json").read_bytes()
    for part in DATA:
        for path in sorted((task.folder / part).rglob("*")):
            if path.is_file():
                yield str(path.relative_to(task.folder)).encode()
                yield path.read_bytes()


def _is_random(start: _Start) -> bool:
    """Tell whether the fitting net begins anew, so that the base predicts no energies."""
    return start.model.branch == RANDOM and not start.warm


def _prepared(settings: DpaSettings, task: Task, start: _Start) -> str:
    """Compare the base with the labels, and write what the training begins with."""
    model = start.model
    if not (start.warm or _is_random(start)):
        _compare(settings, task, model)
    if settings.readout_noise and not (start.warm or task.alone or _is_random(start)):
        model = model.with_changed_readout(settings.readout_noise, task.seed)
    model.write(task.folder / "start.pt")
    return "start.pt"


def _compare(settings: DpaSettings, task: Task, base: Pretrained) -> None:
    """Refuse labels that are far from the base, whatever the energies of the elements."""
    every = max(1, sum(map(len, task.training)) // MOST_COMPARED)
    frames = [part[::every] for part in concatenate(task.training)]
    file = base.packed("base.pt")
    predictions = [predict([file], part, task.folder) for part in frames]
    settings.check_labels(frames, predictions, settings.base)


def _delivered(
    settings: DpaSettings, task: Task, start: _Start, learned: Sequence[Frames]
) -> tuple[StoredFile, StoredFile]:
    """Return the checkpoint with all elements, and the frozen model with those of the run."""
    folder = task.folder
    latest = latest_checkpoint(folder)
    assert latest is not None
    read = read_trained(best_checkpoint(folder, latest))
    trained = replace(merged(read), base=start.model.base, branch=start.model.branch)
    sliced(trained, task.type_map).write(folder / "sliced.pt")
    run(settings, ["freeze", "-c", "sliced.pt", "-o", "model.pth"], folder)
    # DeePMD-kit freezes DPA-4 in another format, whatever the name it is given.
    made = [path for path in (folder / "model.pth", folder / "model.pt2") if path.exists()]
    if not made:
        raise TrainingError(f"freezing left no model{last_lines(folder / 'freeze.log')}")
    checkpoint, model = trained.packed(CHECKPOINT), StoredFile.read(made[0])
    _check_same(checkpoint, model, learned[0][:1], folder)
    return checkpoint, model


def _check_same(checkpoint: StoredFile, model: StoredFile, frame: Frames, folder: Path) -> None:
    """Check that the model that is delivered is the one that was trained."""
    first, second = (predict([file], frame, folder).forces for file in (checkpoint, model))
    largest = float(np.abs(first - second).max())
    if not largest <= SAME_FORCES:
        raise TrainingError(
            f"the frozen model gives forces that differ by {largest:.3g} eV/Å from those of the "
            f"model that was trained{end_of_log(folder / 'freeze.log')}"
        )


def _held_back_errors(model: StoredFile, task: Task) -> ForceErrors | None:
    frames = concatenate(task.validation)
    return model_errors(model, frames, task.folder) if frames else None
