"""Potentials by their kind: as ASE calculators, and what they predict.

A kind names what a model file is, and who can run it. A trainer states the kind that it makes; an
explorer states the kinds that it drives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

import numpy as np

from ionloop.codes.common.ase import calculate
from ionloop.codes.common.prediction import Prediction
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import DEEPMD, StoredFile

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

CALCULATORS: Mapping[str, str] = {
    DEEPMD: "ionloop.codes.deepmd.prediction:calculator",
    "sevennet": "ionloop.codes.sevennet.potential:calculator",
    "chgnet": "ionloop.codes.chgnet.potential:calculator",
    "mace": "ionloop.codes.mace.potential:calculator",
}
"""By kind: import path of a function (model file, device) that returns an ASE calculator."""

PREDICTORS: Mapping[str, str] = {DEEPMD: "ionloop.codes.deepmd.prediction:predict"}
"""By kind: import path of a function (models, frames, folder) that predicts all frames at once."""


def calculator(kind: str, model: Path, device: str = "cpu") -> Calculator:
    """Return the ASE calculator of a model file.

    Parameters
    ----------
    kind
        Kind of the potential: a key of `CALCULATORS`, or an import path like its values.
    model
        Model file.
    device
        Device of torch: cpu, cuda, cuda:1, …; DeePMD-kit chooses by itself.

    Raises
    ------
    InputError
        If nothing is known of this kind.
    """
    path = kind if ":" in kind else CALCULATORS.get(kind)
    if path is None:
        raise InputError(
            f"there is no ASE calculator for potentials of the kind {kind}; known: "
            f"{', '.join(CALCULATORS)}, and any package.module:function that makes one"
        )
    made: Calculator = resolve_name(path)(model, device)
    return made


def predict(
    kind: str, models: Sequence[StoredFile], frames: Frames, folder: Path, device: str = "cpu"
) -> Prediction:
    """Evaluate the models of an ensemble on frames.

    Parameters
    ----------
    kind
        Kind of the potentials.
    models
        Their model files.
    frames
        Configurations, labelled or not.
    folder
        Where the model files are written.
    device
        Device of torch.

    Raises
    ------
    InputError
        If nothing is known of this kind.
    """
    if kind in PREDICTORS:
        predicted: Prediction = resolve_name(PREDICTORS[kind])(models, frames, folder)
        return predicted
    folder.mkdir(parents=True, exist_ok=True)
    paths = [model.write(folder, f"predict-{i}-{model.name}") for i, model in enumerate(models)]
    return join([predict_with(calculator(kind, path, device), frames) for path in paths])


def predict_with(calculator: Calculator, frames: Frames) -> Prediction:
    """Evaluate one ASE calculator on frames.

    Parameters
    ----------
    calculator
        The calculator; where it has no stress, the virials are zero.
    frames
        Configurations, labelled or not.
    """
    results = [calculate(calculator, frame) for frame in frames]
    none = np.zeros((3, 3))
    shape = (1, len(frames), frames.n_atoms, 3)
    return Prediction(
        energies=np.array([[result.energy for result in results]]),
        forces=np.array([result.forces for result in results]).reshape(shape),
        virials=np.array(
            [none if result.virial is None else result.virial for result in results]
        ).reshape(1, len(frames), 3, 3),
    )


def join(predictions: Sequence[Prediction]) -> Prediction:
    """Return the predictions of several ensembles on the same frames as those of one."""
    return Prediction(
        *(
            np.concatenate([getattr(each, name) for each in predictions])
            for name in ("energies", "forces", "virials")
        )
    )
