"""DeePMD-kit: train, freeze, compress, and evaluate a potential.

A training leaves a frozen model, for MD, and a checkpoint, from which the next iteration's
training starts (`--init-model`). On one thread, equal seeds and equal data give equal weights to
the last bit.
"""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ionloop.codes.common.prediction import force_errors
from ionloop.codes.common.training import Training, TrainingError
from ionloop.codes.deepmd.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    pack_checkpoint,
    unpack_checkpoint,
)
from ionloop.codes.deepmd.data import ByWeight, Systems, check_labels, write_blocks, write_systems
from ionloop.codes.deepmd.inputs import input_script
from ionloop.codes.deepmd.network import model_section
from ionloop.codes.deepmd.prediction import predict
from ionloop.codes.deepmd.program import FLAGS, SUFFIXES, check_program
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.codes.deepmd.warm_start import OtherNetworkError, continued_model
from ionloop.programs.log import end_of_log, last_lines
from ionloop.programs.process import run_program
from ionloop.programs.resume_marker import clear_unless_same_work
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.potential import ForceErrors, StoredFile
from ionloop.schemas.table import Table

DATA = ("replay", "training", "validation")  # folders: learned before, new, held back

TRAINED = "trained"  # marks a folder whose training has ended

RESULTS = ("model.ckpt*", "checkpoint", "lcurve.out", "model*.pb", "model*.pth", TRAINED)


def train(
    settings: DeepmdSettings,
    training: Sequence[Frames] | ByWeight,
    validation: Sequence[Frames] = (),
    *,
    type_map: Sequence[str],
    seed: int,
    folder: Path,
    checkpoint: StoredFile | None = None,
) -> Training:
    """Train one model, freeze it, and compare it with its data.

    If the same training was interrupted in the folder, it continues from its last checkpoint; if
    it came to its end there, the model is only frozen. A continued training sees the frames in
    another order than one that was not interrupted, and so ends with other weights.

    Parameters
    ----------
    settings
        Network and training.
    training
        Labelled frames; where some are drawn more often than others, by their weights.
    validation
        Labelled frames that are held back.
    type_map
        Chemical symbols in the order of the types.
    seed
        Seed of the nets and of the order of the frames.
    folder
        Where the input, the logs and the files of the training go.
    checkpoint
        Where to start from, if `settings.warm_steps` is set. If the settings changed or the data
        need more neighbours than it has room for, the training starts from scratch and says so
        (`Training.obstacle`).

    Raises
    ------
    TrainingError
        If a program fails, or the training ends in NaN or without a model.
    MissingProgramError
        If DeePMD-kit is not there.
    ValueError
        If there is nothing to train on, or the labels do not fit together.
    """
    started = time.monotonic()
    given = training if isinstance(training, Mapping) else {1.0: training}
    groups = {weight: [p for p in parts if len(p)] for weight, parts in given.items()}
    training = concatenate(part for parts in groups.values() for part in parts)
    validation = [part for part in validation if len(part)]
    if not training:
        raise InputError("there is no frame to train on")
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    start = _starting_point(settings, training, type_map, folder, checkpoint)
    warm = start.checkpoint is not None
    _write_input(settings, start, groups, validation, seed, folder)
    curve = _learn(settings, folder, start.checkpoint)
    frozen = _freeze(settings, folder)
    learned = [frame_id for part in training for frame_id in part.ids]
    return Training(
        model=frozen,
        checkpoint=pack_checkpoint(start.model, folder, learned),
        learning_curve=curve,
        train_errors=model_errors(frozen, training, folder),
        validation_errors=model_errors(frozen, validation, folder) if validation else None,
        steps=settings.training_steps(warm),
        warm_start=warm,
        obstacle=start.obstacle,
        seconds=time.monotonic() - started,
    )


def read_learning_curve(path: Path) -> Table:
    """Read `lcurve.out`; of a step that was repeated after a restart, the last row counts.

    Raises
    ------
    TrainingError
        If there is no row.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    if not rows:
        raise TrainingError(f"{path} holds no learning curve: the training did not begin")
    names = lines[0].lstrip("# ").split()
    by_step = {row[0]: row for row in rows}
    values = np.array(list(by_step.values()), dtype=float)
    columns = dict(zip(names, values.T, strict=True))
    return Table(columns | {"step": columns["step"].astype(int)})


@dataclass(frozen=True)
class _Start:
    """Where a training begins: the model section, and the checkpoint to continue from."""

    model: dict[str, Any]
    checkpoint: Checkpoint | None = None
    obstacle: str = ""


def _starting_point(
    settings: DeepmdSettings,
    training: Sequence[Frames],
    type_map: Sequence[str],
    folder: Path,
    given: StoredFile | None,
) -> _Start:
    """Return the checkpoint that was given if it can be used, and otherwise why not."""
    if not (given and settings.warm_steps):
        return _Start(model_section(settings, training, type_map))
    checkpoint = unpack_checkpoint(given, folder / "warm")
    try:
        return _Start(continued_model(settings, training, type_map, checkpoint), checkpoint)
    except OtherNetworkError as problem:
        return _Start(model_section(settings, training, type_map), obstacle=str(problem))


def _write_input(
    settings: DeepmdSettings,
    start: _Start,
    groups: ByWeight,
    validation: Sequence[Frames],
    seed: int,
    folder: Path,
) -> None:
    for name in DATA:
        shutil.rmtree(folder / name, ignore_errors=True)
    type_map = start.model["type_map"]
    training = [part for parts in groups.values() for part in parts]
    check_labels(training, type_map)
    learned = start.checkpoint.learned if start.checkpoint else ()
    names, blocks = write_blocks(groups, learned, settings.warm_new_weight, folder, type_map)
    systems = Systems(
        training=names,
        validation=write_systems(validation, folder / "validation", type_map),
        has_virials=any(part.virials is not None for part in training),
        blocks=blocks if len(blocks) > 1 else (),
    )
    script = input_script(
        settings, start.model, systems, seed=seed, warm=start.checkpoint is not None
    )
    (folder / "input.json").write_text(json.dumps(script, indent=2))


def _learn(settings: DeepmdSettings, folder: Path, start: Checkpoint | None) -> Table:
    """Run `dp train`, from where an earlier attempt at the same was interrupted."""
    clear_unless_same_work(folder, RESULTS, _inputs(folder))
    interrupted = latest_checkpoint(folder)
    if interrupted:
        origin = ["--restart", interrupted.name]
    else:
        origin = ["--init-model", str(start.path)] if start else []
    if not interrupted or not (folder / TRAINED).exists():
        # `sel` is known, and counting neighbours in every training takes seconds.
        _run(settings, ["train", "--skip-neighbor-stat", "input.json", *origin], folder)
    if latest_checkpoint(folder) is None:
        raise TrainingError(f"the training left no checkpoint{last_lines(folder / 'train.log')}")
    curve = finite_curve(folder)
    (folder / TRAINED).touch()
    return curve


def _inputs(folder: Path) -> Iterator[bytes]:
    """Yield the names and contents of all files that the training reads."""
    yield (folder / "input.json").read_bytes()
    for part in (*DATA, "warm"):
        for path in sorted((folder / part).rglob("*")):
            if path.is_file():
                yield str(path.relative_to(folder)).encode()
                yield path.read_bytes()


def finite_curve(folder: Path) -> Table:
    """Read the learning curve of a training.

    Parameters
    ----------
    folder
        Its folder.

    Raises
    ------
    TrainingError
        If there is none, or an error in it is not finite.
    """
    try:
        curve = read_learning_curve(folder / "lcurve.out")
    except TrainingError as error:
        raise TrainingError(f"{error}{last_lines(folder / 'train.log')}") from None
    # Where no frame has a virial, its column is NaN by design.
    for name in {"rmse_trn", "rmse_e_trn", "rmse_f_trn"} & set(curve.names):
        bad = ~np.isfinite(curve[name])
        if bad.any():
            step = curve["step"][bad][0]
            sentence = f"the training broke down: {name} is not finite at step {step}"
            log = end_of_log(folder / "train.log")
            raise TrainingError(f"{sentence}; lower the learning rate{log}")
    return curve


def _freeze(settings: DeepmdSettings, folder: Path) -> StoredFile:
    suffix = SUFFIXES[settings.backend]
    frozen = f"model{suffix}"
    _run(settings, ["freeze", "-o", frozen], folder)
    if settings.compress:
        small = f"model-small{suffix}"
        _run(settings, ["compress", "-i", frozen, "-o", small, "-t", "input.json"], folder)
        (folder / small).replace(folder / frozen)
    if not (folder / frozen).exists():
        raise TrainingError(f"freezing left no {frozen}{last_lines(folder / 'freeze.log')}")
    return StoredFile.read(folder / frozen)


def model_errors(model: StoredFile, frames: Sequence[Frames], folder: Path) -> ForceErrors:
    """Compare a frozen model with labels.

    Parameters
    ----------
    model
        Frozen model.
    frames
        Labelled frames.
    folder
        Folder of the training, whose log is quoted.

    Raises
    ------
    TrainingError
        If energies or forces are not finite.
    """
    predictions = [predict([model], part, folder) for part in frames]
    if not all(prediction.is_finite for prediction in predictions):
        log = end_of_log(folder / "train.log")
        raise TrainingError(f"the trained model gives energies or forces that are not finite{log}")
    return force_errors(predictions, frames)


def _run(settings: DeepmdSettings, arguments: Sequence[str], folder: Path) -> None:
    check_program(settings.command)
    command = [*shlex.split(settings.command), FLAGS[settings.backend], *arguments]
    log = folder / f"{arguments[0]}.log"
    ended = run_program(command, folder, log)
    if ended.status:
        raise TrainingError(f"`{shlex.join(command)}` {ended.words}{last_lines(log)}")
