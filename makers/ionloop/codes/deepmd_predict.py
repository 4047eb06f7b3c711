"""Energies, forces and virials of DeePMD-kit models, and their errors."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ionloop.codes.deepmd_input import type_indices
from ionloop.codes.program import BASIC_ENVIRONMENT, WITHOUT_KERAS, environment
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.potential import ForceErrors, StoredFile

_ONE_AT_A_TIME = threading.Lock()  # where output goes is the matter of the whole process


@dataclass(frozen=True)
class Prediction:
    """What m models say about f frames of n atoms.

    Parameters
    ----------
    energies
        Total energies in eV, (m, f).
    forces
        Forces in eV/Å, (m, f, n, 3).
    virials
        Virials in eV, (m, f, 3, 3).
    """

    energies: Array
    forces: Array
    virials: Array

    @property
    def mean(self) -> Prediction:
        """The ensemble mean, as a prediction of one model."""
        arrays = (self.energies, self.forces, self.virials)
        return Prediction(*(array.mean(axis=0, keepdims=True) for array in arrays))

    def of(self, model: int) -> Prediction:
        """Return what one of the models says."""
        arrays = (self.energies, self.forces, self.virials)
        return Prediction(*(array[model : model + 1] for array in arrays))

    @property
    def is_finite(self) -> bool:
        """Whether no number is NaN or infinite."""
        return all(np.isfinite(a).all() for a in (self.energies, self.forces, self.virials))


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
    energies, forces, virials = (np.array(arrays) for arrays in zip(*results, strict=True))
    return Prediction(energies, forces, virials)


def force_errors(predictions: Sequence[Prediction], frames: Sequence[Frames]) -> ForceErrors:
    """Compare predictions with labels, component by component.

    Parameters
    ----------
    predictions
        One per entry of `frames`; of several models, the mean is compared.
    frames
        Labelled frames.

    Returns
    -------
    ForceErrors
        Root-mean-square errors. Energies are compared as they are, with nothing shifted; virials
        only where the frames have them.

    Raises
    ------
    ValueError
        If there is no frame, or a frame has no label.
    """
    if not sum(len(part) for part in frames):
        raise ValueError("errors need at least one labelled frame")
    pairs = [(p.mean, f) for p, f in zip(predictions, frames, strict=True) if len(f)]
    with_virials = [(p, f) for p, f in pairs if f.virials is not None]
    return ForceErrors(
        n_frames=sum(len(f) for _, f in pairs),
        energy_mev_per_atom=_rms(
            [(p.energies[0] - _label(f, "energies")) / f.n_atoms for p, f in pairs]
        ),
        force_mev_per_angstrom=_rms([p.forces[0] - _label(f, "forces") for p, f in pairs]),
        virial_mev_per_atom=_rms(
            [(p.virials[0] - _label(f, "virials")) / f.n_atoms for p, f in with_virials]
        )
        if with_virials
        else None,
        force_rms_mev_per_angstrom=_rms([_label(f, "forces") for _, f in pairs]),
    )


def _label(frames: Frames, name: str) -> Array:
    array: Array | None = getattr(frames, name)
    if array is None:
        raise ValueError(f"{frames!r} has no {name} to compare with")
    return array


def _rms(differences: Sequence[Array]) -> float:
    """Return the root mean square in thousandths."""
    flat = np.concatenate([difference.ravel() for difference in differences])
    return 1000 * float(np.sqrt(np.mean(flat**2)))


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
    # TensorFlow and DeePMD-kit's libraries write past Python, on every load.
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
