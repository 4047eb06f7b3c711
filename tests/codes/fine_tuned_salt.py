"""A tiny fine-tuning, of lithium fluoride with labels of another potential; also as a process.

As a process it takes the name of a code, a file with the labels, and the folder where it
trains.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ionloop.codes.chgnet.settings import ChgnetSettings
from ionloop.codes.common.ase import calculate
from ionloop.codes.common.training import Training
from ionloop.codes.finetuning.torch_settings import TorchFineTuner
from ionloop.codes.forcefield.model import calculator
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.codes.sevennet.settings import SevennetSettings
from ionloop.geometry.perturb import perturb
from ionloop.schemas.frames import Frames, concatenate

SETTINGS: dict[str, type[TorchFineTuner]] = {
    "sevennet": SevennetSettings,
    "chgnet": ChgnetSettings,
}
SHORT = {"steps": 8, "check_every": 2, "rise_steps": 2}
N_TRAINED = 4


def salt() -> Frames:
    """Return five perturbed frames of four atoms."""
    cell = 4.03 * np.array([[0.0, 1.0, 1.0], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    positions = 4.03 * np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0], [0.5, 0.5, 0.5]])
    start = Frames(("Li", "Li", "F", "F"), positions[None], cell[None])
    return perturb(start, 5, displacement=0.2, strain=0.03, seed=5)


def labelled(model: str) -> Frames:
    """Return the frames with the labels of a universal potential."""
    potential = calculator(ForceFieldSettings(model=model))
    labels = []
    for frame in salt():
        found = calculate(potential, frame)
        energy, virial = np.array([found.energy]), found.virial[None]
        labels.append(replace(frame, energies=energy, forces=found.forces[None], virials=virial))
    return concatenate(labels)[0]


def train(code: str, frames: Frames, folder: Path, **changes: Any) -> Training:
    """Train a model on the first frames, and hold the others back."""
    given: dict[str, Any] = {"type_map": ["Li", "F"], "seed": 1, "folder": folder}
    for name in {"seed", "checkpoint", "alone"} & set(changes):
        given[name] = changes.pop(name)
    chosen: dict[str, Any] = {**SHORT, **changes}
    settings = SETTINGS[code](**chosen)
    return settings.train([frames[:N_TRAINED]], [frames[N_TRAINED:]], **given)


if __name__ == "__main__":
    saved = np.load(sys.argv[2])
    train(sys.argv[1], Frames(("Li", "Li", "F", "F"), **saved), Path(sys.argv[3]))
