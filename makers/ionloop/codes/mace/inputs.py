"""What `mace_run_train` reads: files of frames, and its arguments."""

# mypy: allow-untyped-calls
from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes.finetuning.schedule import drawn
from ionloop.codes.finetuning.settings import SCRATCH
from ionloop.formats.ase import to_ase
from ionloop.formats.reading import read_frames
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames, concatenate

if TYPE_CHECKING:
    from ionloop.codes.finetuning.training import Task
    from ionloop.codes.mace.settings import MaceSettings

TRAINING, VALIDATION, REPLAY, REPLAY_VALIDATION = (
    "training.xyz",
    "validation.xyz",
    "replay.xyz",
    "replay-validation.xyz",
)

ENERGIES = "energies.json"
"""File of the energies of atoms alone, in eV by atomic number."""

START = "start.model"
"""The model that the training begins with."""

NAME = "mace"

DEVICES = "CUDA_VISIBLE_DEVICES"

HUBER_DELTA = 0.01
"""Deviation in eV/atom, eV/Å and eV/Å³ from which on the loss grows linearly."""

LAST_RATE = 0.01
"""Learning rate of the last epoch, as a fraction of that of the first."""

_REPLAY = 3  # tells the random numbers of one seed apart from those of `drawn`


@dataclass(frozen=True)
class Course:
    """How a number of steps is divided into epochs.

    MACE compares with the held-back frames after the first epoch and then after every
    `check_every`-th; the last epoch is one of these.

    Parameters
    ----------
    epochs
        Epochs in all.
    steps_per_epoch
        Optimiser steps of an epoch, those on replayed frames included.
    batch_size
        Frames per step.
    check_every
        Epochs between comparisons.
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    check_every: int

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.steps_per_epoch

    @property
    def decay(self) -> float:
        """Factor of the learning rate from one epoch to the next."""
        return float(LAST_RATE ** (1 / max(self.epochs - 1, 1)))


def course(settings: MaceSettings, n_frames: int, n_replayed: int, warm: bool) -> Course:
    """Divide a training into epochs.

    Parameters
    ----------
    settings
        Steps, batch size, steps between comparisons.
    n_frames
        Labelled frames of an epoch.
    n_replayed
        Replayed frames of an epoch, on top.
    warm
        Whether it starts from the last turn's model.
    """
    batch_size = min(settings.batch_size, n_frames)
    per_epoch = n_frames / batch_size
    epochs = max(1, round(settings.training_steps(n_frames, warm) / per_epoch))
    check_every = min(max(1, round(settings.check_every / per_epoch)), max(1, epochs - 1))
    return Course(
        epochs=1 + check_every * round((epochs - 1) / check_every),
        # MACE leaves out what does not fill a batch.
        steps_per_epoch=(n_frames + n_replayed) // batch_size,
        batch_size=batch_size,
        check_every=check_every,
    )


def write_data(
    settings: MaceSettings, task: Task, folder: Path
) -> tuple[list[Frames], list[Frames]]:
    """Write the frames of a training; without any held back, MACE compares with those learned.

    Parameters
    ----------
    settings
        Whether frames are drawn with repetition, and which are replayed.
    task
        Labelled frames, and the seed of what is drawn.
    folder
        Where the files go.

    Returns
    -------
    tuple
        The frames to train on without repetition, joined by composition; and those that are
        replayed, each Frames of one.

    Raises
    ------
    InputError
        If a frame has no label, or there are none to replay.
    """
    chosen = drawn(len(task.training), task.seed, settings.bootstrap and not task.alone)
    learned = [task.training[number] for number in sorted(set(chosen.tolist()))]
    _write(folder / TRAINING, (task.training[number] for number in chosen))
    _write(folder / VALIDATION, task.validation or learned)
    if settings.replay is None:
        return concatenate(learned), []
    replayed = replayed_frames(Path(settings.replay), settings.replay_frames, task.seed)
    _write(folder / REPLAY, replayed)
    _write(folder / REPLAY_VALIDATION, replayed[:10])  # MACE wants some, and decides nothing by it
    return concatenate(learned), replayed


def replayed_frames(path: Path, most: int, seed: int) -> list[Frames]:
    """Draw frames from a file with labels.

    Parameters
    ----------
    path
        The file.
    most
        How many are drawn; all if there are fewer.
    seed
        Seed of the draw.

    Raises
    ------
    InputError
        If a frame has no label, or there is none.
    FrameFileError
        If the file cannot be read.
    """
    frames = [frame for part in read_frames(path) for frame in part]
    if not frames or not all(frame.is_labelled for frame in frames):
        raise InputError(
            f"train.replay: {path} holds no frames, or some without energy and forces; give an "
            "extxyz file whose frames have both, calculated as the data of the base were"
        )
    order = np.random.default_rng([seed, _REPLAY]).permutation(len(frames))
    return [frames[number] for number in order[:most]]


def _write(path: Path, frames: Iterable[Frames]) -> None:
    from ase.io import write
    from ase.stress import full_3x3_to_voigt_6_stress

    images = []
    for frame in frames:
        if frame.energies is None or frame.forces is None:
            raise InputError(f"{frame!r} has no energies and forces, which a training needs")
        (atoms,) = to_ase(frame.unlabelled())
        atoms.info = {"REF_energy": float(frame.energies[0])}
        atoms.arrays["REF_forces"] = frame.forces[0]
        if frame.virials is not None:
            stress = -frame.virials[0] / frame.volumes[0]
            atoms.info["REF_stress"] = full_3x3_to_voigt_6_stress(stress)
        images.append(atoms)
    write(path, images, format="extxyz")


def arguments(
    settings: MaceSettings, plan: Course, elements: Sequence[str], *, seed: int, warm: bool
) -> dict[str, Any]:
    """Return the options of `mace_run_train`.

    Parameters
    ----------
    settings
        Net, loss and optimiser.
    plan
        Epochs and batches.
    elements
        Chemical symbols that the model knows.
    seed
        Seed of the order of the frames, and of random weights.
    warm
        Whether it starts from the last turn's model.
    """
    from ase.data import atomic_numbers

    given: dict[str, Any] = {
        "name": NAME,
        "seed": seed,
        "device": settings.device.partition(":")[0],
        "default_dtype": settings.dtype,
        "train_file": TRAINING,
        "valid_file": VALIDATION,
        "atomic_numbers": sorted(atomic_numbers[symbol] for symbol in elements),
        "E0s": ENERGIES,
        "loss": "universal",
        "huber_delta": HUBER_DELTA,
        "energy_weight": settings.energy_weight,
        "forces_weight": settings.force_weight,
        "stress_weight": settings.stress_weight,
        "batch_size": plan.batch_size,
        "valid_batch_size": plan.batch_size,
        "lr": settings.warm_learning_rate if warm else settings.learning_rate,
        "scheduler": "ExponentialLR",
        "lr_scheduler_gamma": plan.decay,
        "max_num_epochs": plan.epochs,
        "eval_interval": plan.check_every,
        "patience": 2**31,  # MACE 0.3.15 heeds it on several GPUs only: see `results`
        "plot": False,
    }
    given |= _net(settings) if settings.base == SCRATCH and not warm else _fine_tuning(settings)
    return given


def as_words(options: Mapping[str, object]) -> list[str]:
    """Return options as words of a command, together with the switches that every training has.

    Parameters
    ----------
    options
        Values by name.
    """
    switches = ("keep_checkpoints", "save_all_checkpoints", "restart_latest", "save_cpu")
    return [*(f"--{key}={value}" for key, value in options.items()), *(f"--{s}" for s in switches)]


def variables(device: str) -> dict[str, str]:
    """Return the environment variables with which MACE's command uses one GPU of several.

    Parameters
    ----------
    device
        Device of torch.
    """
    number = device.partition(":")[2]
    if not number:
        return {}
    seen = [each for each in os.environ.get(DEVICES, "").split(",") if each]
    return {DEVICES: seen[int(number)] if seen else number}


def _net(settings: MaceSettings) -> dict[str, Any]:
    return {
        "model": "MACE",
        "num_channels": settings.channels,
        "max_L": settings.max_l,
        "num_interactions": settings.layers,
        "r_max": settings.r_max,
    }


def _fine_tuning(settings: MaceSettings) -> dict[str, Any]:
    """Return the options of fine-tuning; MACE's own default is to replay what it downloads."""
    given: dict[str, Any] = {
        "foundation_model": START,
        "multiheads_finetuning": settings.replay is not None,
    }
    if settings.replay is not None:
        given |= {
            "pt_train_file": REPLAY,
            "pt_valid_file": REPLAY_VALIDATION,
            "force_mh_ft_lr": True,  # else the learning rate is MACE's own
            "real_pt_data_ratio_threshold": 0.0,  # else frames would be repeated
        }
    if settings.lora is not None:
        given |= {"lora": True, "lora_rank": settings.lora}
    if settings.freeze:
        given["freeze"] = settings.freeze
    return given
