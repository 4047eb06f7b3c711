"""Energies, forces and virials of DeePMD-kit models, and their errors."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes.common.prediction import Prediction
from ionloop.codes.deepmd.data import type_indices
from ionloop.programs.environment import BASIC_ENVIRONMENT, WITHOUT_KERAS, environment
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.potential import StoredFile

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

_ONE_AT_A_TIME = threading.Lock()  # output is redirected for the whole process


def predict(models: Sequence[StoredFile], frames: Frames, folder: Path) -> Prediction:
    """Evaluate models on frames, in this process and on one thread unless the environment says.

    Parameters
    ----------
    models
        Frozen models.
    frames
        Configurations, labelled or not.
    folder
        Where the model files are written.

    Raises
    ------
    ValueError
        If an element of the frames is not in a model's type map.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [model.write(folder, f"predict-{i}-{model.name}") for i, model in enumerate(models)]
    results = [_evaluate(path, frames) for path in paths]
    return Prediction(*(np.array(arrays) for arrays in zip(*results, strict=True)))


def calculator(model: Path, device: str = "cpu") -> Calculator:
    """Return the ASE calculator of a frozen model; DeePMD-kit chooses the device by itself.

    Parameters
    ----------
    model
        Frozen model.
    device
        Not used.
    """
    for key, value in BASIC_ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    with _ONE_AT_A_TIME, environment(WITHOUT_KERAS), _native_output_to(model.with_suffix(".log")):
        from deepmd.calculator import DP

        made: Calculator = DP(str(model))
    return made


def _evaluate(path: Path, frames: Frames) -> tuple[Array, Array, Array]:
    f, n = len(frames), frames.n_atoms
    with _ONE_AT_A_TIME, _open_potential(path) as potential:
        types = type_indices(frames.symbols, potential.get_type_map())
        energies, forces, virials = potential.eval(frames.positions, frames.cells, types)
    return energies.reshape(f), forces.reshape(f, n, 3), virials.reshape(f, 3, 3)


def _open_potential(path: Path) -> Any:
    for key, value in BASIC_ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    with environment(WITHOUT_KERAS), _native_output_to(path.with_suffix(".log")):
        from deepmd.infer import DeepPot

        logging.getLogger("deepmd").setLevel(logging.ERROR)
        return DeepPot(str(path))


@contextmanager
def _native_output_to(log: Path) -> Iterator[None]:
    # On every load, TensorFlow and DeePMD-kit's libraries write without Python's streams.
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    with log.open("wb") as stream:
        try:
            for descriptor in (1, 2):
                os.dup2(stream.fileno(), descriptor)
            yield
        finally:
            for descriptor, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
