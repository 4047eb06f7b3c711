"""Training with MACE: its command in an environment of its own, and what is made of its results.

A training that is interrupted continues from its newest checkpoint; it repeats at most the epochs
since the comparison before that.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ionloop.codes.common.prediction import force_errors
from ionloop.codes.common.training import Training, TrainingError
from ionloop.codes.finetuning.training import Task
from ionloop.codes.mace import inputs, results
from ionloop.codes.mace.beginning import BEGUN, Copy, base_of, begin, identity, probe
from ionloop.codes.mace.potential import add_record, with_python
from ionloop.codes.mace.server import command, server
from ionloop.codes.potentials import predict_with
from ionloop.programs.die_with_parent import die_with_parent
from ionloop.programs.log import end_of_log, last_lines
from ionloop.programs.process import has_ended, running_program, status_words
from ionloop.programs.resume_marker import clear_unless_same_work
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames, concatenate, symbols_of
from ionloop.schemas.potential import Base, ForceErrors, StoredFile

if TYPE_CHECKING:
    from ionloop.codes.mace.settings import MaceSettings

LOG = "train.log"

MODEL = f"{inputs.NAME}.model"
"""File that MACE leaves at its end; not whole if it was killed there."""

BEST = "best.model"
"""The same once it is known to be whole, and that of the best checkpoint."""

DELIVERED = "delivered.model"

TRAINED = "trained"
"""Marks a folder whose training has ended."""

LEFT = (BEGUN, TRAINED, results.CURVE, "*.model", "checkpoints/*", "results/*")

WATCH_SECONDS = 1.0


def train(settings: MaceSettings, task: Task) -> Training:
    """Train one model; see `FineTuner.train`.

    Parameters
    ----------
    settings
        Base, net, loss and optimiser.
    task
        The frames, and what sets this model apart.

    Raises
    ------
    InputError
        If the base lacks an element or does not fit the labels, or the device is absent.
    TrainingError
        If the training breaks down.
    ProgramNotFoundError, MaceError
        If MACE is not there, or its process fails.
    """
    started = time.monotonic()
    if not task.training:
        raise InputError("there is no frame to train on")
    folder, seed = task.folder.resolve(), task.seed % 2**31
    folder.mkdir(parents=True, exist_ok=True)
    versions, base = probe(settings)["versions"], base_of(settings)
    learned, replayed = inputs.write_data(settings, replace(task, seed=seed), folder)
    given = task.checkpoint if settings.warm_steps else None
    clear_unless_same_work(folder, LEFT, _inputs(settings, base, given, seed, folder))
    elements = sorted({*task.type_map, *symbols_of([*task.training, *replayed])})
    copy = Copy(settings.dtype, 0.0 if task.alone else settings.readout_noise, seed)
    begun = begin(settings, given, learned, elements, copy, folder)
    plan = inputs.course(settings, len(task.training), len(replayed), begun.warm)
    options = inputs.arguments(settings, plan, elements, seed=seed, warm=begun.warm)
    _learn(settings, plan, options, folder)
    model = _deliver(settings, {**versions, "began": identity(settings, base)}, folder)
    held = concatenate(task.validation)
    return Training(
        model=model,
        checkpoint=model,
        learning_curve=results.learning_curve(folder, plan, options["lr"], bool(held)),
        train_errors=_errors(settings, learned, folder),
        validation_errors=_errors(settings, held, folder) if held else None,
        steps=results.epochs_trained(folder) * plan.steps_per_epoch,
        warm_start=begun.warm,
        obstacle=begun.obstacle,
        seconds=time.monotonic() - started,
        base=base,
    )


def _inputs(
    settings: MaceSettings, base: Base | None, given: StoredFile | None, seed: int, folder: Path
) -> Iterator[bytes]:
    """Yield all that decides what a training does."""
    yield settings.model_dump_json(exclude={"python", "base", "replay"}).encode()
    yield f"{base} {given.sha256 if given else None} {seed}".encode()
    for name in (inputs.TRAINING, inputs.VALIDATION, inputs.REPLAY):
        path = folder / name
        yield path.read_bytes() if path.exists() else b""


def _learn(
    settings: MaceSettings, plan: inputs.Course, options: Mapping[str, object], folder: Path
) -> None:
    """Run MACE's command, from where it was interrupted, and have it write its best model."""
    if (folder / BEST).exists():
        return
    wrote_model = False
    if not (folder / TRAINED).exists():
        results.remove_checkpoints(folder, keep=results.checkpoints(folder).values())
        wrote_model = _run(settings, plan, options, settings.patience, folder)
        (folder / TRAINED).touch()
    there, best = results.checkpoints(folder), results.best_checkpoint(folder)
    if best is None:
        raise TrainingError(f"the training left no checkpoint{last_lines(folder / LOG)}")
    # MACE writes the model of its newest checkpoint.
    if not (wrote_model and best == there[max(there)]):
        results.remove_checkpoints(folder, keep=[best])
        _run(settings, plan, {**options, "max_num_epochs": 0}, None, folder)
    (folder / MODEL).replace(folder / BEST)


def _run(
    settings: MaceSettings,
    plan: inputs.Course,
    options: Mapping[str, object],
    patience: int | None,
    folder: Path,
) -> bool:
    """Run MACE's command; return False if it was ended because nothing better came for long."""
    program = [*command(settings.python), "-m", "mace.cli.run_train"]
    words = [*shlex.split(die_with_parent(shlex.join(program))), *inputs.as_words(options)]
    log, variables = folder / LOG, inputs.variables(settings.device)
    with (
        log.open("wb") as stream,
        running_program(words, folder, stream, variables=variables) as process,
    ):
        while not has_ended(process, WATCH_SECONDS):
            results.note_advance(folder, plan)
            results.thin_out(folder)
            if results.out_of_patience(results.comparisons(folder), patience):
                return False
    results.comparisons(folder)  # tells of errors that are not finite
    if process.returncode:
        ended = status_words(process.returncode)
        raise TrainingError(f"`{shlex.join(program)}` {ended}{last_lines(log)}")
    return True


def _deliver(settings: MaceSettings, about: Mapping[str, object], folder: Path) -> StoredFile:
    """Return the model of the new labels alone, with a record of what trained it."""
    delivered = folder / DELIVERED
    mace = server(settings.python, settings.device)
    mace.ask("deliver", model=str(folder / BEST), to=str(delivered))
    add_record(delivered, {"python": settings.python, **about})
    return StoredFile(MODEL, delivered.read_bytes())


def _errors(settings: MaceSettings, frames: Sequence[Frames], folder: Path) -> ForceErrors:
    calculator = with_python(settings.python, folder / DELIVERED, settings.device)
    predictions = [predict_with(calculator, part) for part in frames]
    if not all(prediction.is_finite for prediction in predictions):
        log = end_of_log(folder / LOG)
        raise TrainingError(f"the trained model gives energies or forces that are not finite{log}")
    return force_errors(predictions, frames)
