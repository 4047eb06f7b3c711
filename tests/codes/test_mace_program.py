"""MACE itself: trained from scratch, killed and continued; fine-tuned; evaluated by its Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ase.calculators.emt import EMT
from ase.io import write

from ionloop.codes import potentials
from ionloop.codes.common.training import Training
from ionloop.codes.mace import MaceSettings, results
from ionloop.codes.mace.beginning import Copy, begin
from ionloop.codes.mace.potential import record
from ionloop.codes.mace.server import server
from ionloop.codes.potentials import predict_with
from ionloop.formats.ase import to_ase
from ionloop.formats.reading import read_frames
from ionloop.geometry.perturb import perturb
from ionloop.jobs.train.mace import MaceTrainMaker
from ionloop.preflight.codes.base import look_at_code
from ionloop.runfile.sections.mace import MaceSection
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames

pytestmark = pytest.mark.integration

VARIABLE = "IONLOOP_TEST_MACE"

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])

TRAIN = """
import json, sys
from pathlib import Path
from ionloop.codes.mace import MaceSettings
from ionloop.formats.reading import read_frames
folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
frames = read_frames(folder / "frames.extxyz")
MaceSettings(**settings).train(
    [frames[0][:8]], [frames[0][8:]], type_map=["Au", "Cu"], seed=3, folder=folder / "work"
)
"""


def alloy(symbols: str, n_frames: int, seed: int) -> Frames:
    """Return perturbed frames of an fcc cell with the labels of EMT."""
    start = Frames(tuple(symbols.split()), 3.9 * FCC[None], 3.9 * np.eye(3)[None])
    frames = perturb(start, n_frames, displacement=0.2, strain=0.03, seed=seed)
    labels = predict_with(EMT(), frames)
    return replace(
        frames, energies=labels.energies[0], forces=labels.forces[0], virials=labels.virials[0]
    )


@dataclass(frozen=True)
class Trained:
    """A net from scratch that was killed while it was trained, and then continued."""

    settings: MaceSettings
    frames: Frames
    training: Training
    folder: Path
    epochs_before_the_kill: int
    n_rows_of_the_first_epoch: int

    @property
    def base(self) -> str:
        return str(self.folder / "delivered.model")


@pytest.fixture(scope="module")
def python() -> str:
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} is not set to the command of the Python of MACE's environment")
    return os.environ[VARIABLE]


@pytest.fixture(scope="module")
def trained(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("mace")
    frames = alloy("Au Cu Cu Au", 10, seed=4)
    write(folder / "frames.extxyz", to_ase(frames))
    (frames,) = read_frames(folder / "frames.extxyz")
    settings = MaceSettings(
        python=python,
        base="scratch",
        steps=72,
        warm_steps=24,
        check_every=8,
        channels=4,
        r_max=4.0,
        learning_rate=0.01,
    )
    killed_after = train_until_killed(folder, settings)
    work = folder / "work"
    training = settings.train(
        [frames[:8]], [frames[8:]], type_map=["Au", "Cu"], seed=3, folder=work
    )
    first = [row for row in results._rows(work) if row["mode"] == "opt" and row["epoch"] == 0]
    yield Trained(settings, frames, training, work, killed_after, len(first))
    server(python).close()


def train_until_killed(folder: Path, settings: MaceSettings) -> int:
    """Train in a process of its own, kill it after two epochs or three, and return how many."""
    command = [sys.executable, "-c", TRAIN, str(folder), settings.model_dump_json()]
    log = (folder / "killed.log").open("wb")
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        while len(results.checkpoints(folder / "work")) < 2:
            assert process.poll() is None, (folder / "killed.log").read_text()
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "MACE went on after what had started it was killed"
    assert not (folder / "work" / "trained").exists()
    return max(results.checkpoints(folder / "work")) + 1


def test_a_training_that_was_killed_continues(trained):
    assert trained.training.steps == 72
    assert trained.epochs_before_the_kill in (2, 3, 4)
    assert trained.n_rows_of_the_first_epoch == 8, "the training began anew"
    steps = trained.training.learning_curve["step"].tolist()
    assert steps == list(range(8, 80, 8))


def test_a_training_learns_and_its_best_model_is_delivered(trained):
    training = trained.training
    curve = training.learning_curve
    errors = training.validation_errors
    assert training.base is None
    assert not training.warm_start
    # MACE's own errors of the checkpoint, and those of the delivered file through ionloop.
    assert min(abs(curve["rmse_f_val"] * 1000 - errors.force_mev_per_angstrom)) < 1e-3
    assert errors.force_mev_per_angstrom < 0.9 * errors.force_rms_mev_per_angstrom
    assert record(Path(trained.base))["mace-torch"] == trained.settings.versions["mace-torch"]


def test_forces_and_stress_are_derivatives_of_the_energy(trained):
    calculator = potentials.calculator("mace", Path(trained.base))
    (atoms,) = to_ase(trained.frames[:1].unlabelled())
    atoms.calc = calculator
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    cell, volume, h = atoms.cell.array.copy(), atoms.get_volume(), 1e-4

    def energy(strain: Any = 0.0, shift: float = 0.0) -> float:
        moved = atoms.copy()
        moved.positions[1, 2] += shift
        moved.set_cell(cell @ (np.eye(3) + strain), scale_atoms=True)
        moved.calc = calculator
        return float(moved.get_potential_energy())

    assert forces[1, 2] == pytest.approx(-(energy(shift=h) - energy(shift=-h)) / (2 * h), rel=1e-4)
    along = np.zeros((3, 3))
    along[0, 0] = h
    slope = (energy(strain=along) - energy(strain=-along)) / (2 * h * volume)
    assert stress[0, 0] == pytest.approx(slope, rel=1e-4)
    gold = alloy("Au Au Au Au", 1, seed=1)  # another composition, the same process
    assert potentials.predict("mace", [trained.training.model], gold, Path(trained.base).parent)


def test_a_warm_start_takes_up_labels_with_other_reference_energies(trained, tmp_path):
    moved = {"Au": 1.0, "Cu": -3.0}
    shift = sum(moved[symbol] for symbol in trained.frames.symbols)
    frames = replace(trained.frames, energies=trained.frames.energies + shift)
    maker = MaceTrainMaker(settings=trained.settings, type_map=["Au", "Cu"], n_models=2)
    again = maker.fit(
        [frames[:8]], [frames[8:]], seed=5, folder=tmp_path, checkpoint=trained.training.model
    )
    assert again.warm_start
    assert not again.obstacle
    assert again.steps == 24
    before, after = trained.training.validation_errors, again.validation_errors
    assert after.energy_mev_per_atom < before.energy_mev_per_atom + 50  # the shift: 1,000
    assert after.force_mev_per_angstrom < 1.1 * before.force_mev_per_angstrom
    assert again.train_errors.n_frames < 8  # a bootstrap leaves some out


def test_a_base_is_fine_tuned_with_replay_by_low_rank_changes(trained, tmp_path):
    write(tmp_path / "replay.extxyz", to_ase(alloy("Au Au Au Cu", 6, seed=7)))
    settings = MaceSettings(
        python=trained.settings.python,
        base=trained.base,
        replay=str(tmp_path / "replay.extxyz"),
        replay_frames=4,
        lora=2,
        steps=8,
    )
    frames = trained.frames
    tuned = settings.train(
        [frames[:4]], type_map=["Au", "Cu"], seed=2, folder=tmp_path / "work", alone=True
    )
    assert tuned.base.name == "delivered.model"
    assert tuned.validation_errors is None
    assert tuned.steps == 2 * 8  # 4 labels and 4 replayed frames, twice
    # Another head, another file, LoRA merged: still close to the base, and no longer the same.
    models = [trained.training.model, tuned.model]
    forces = potentials.predict("mace", models, frames, tmp_path).forces
    difference = np.sqrt(np.mean((forces[0] - forces[1]) ** 2))
    assert 1e-6 < difference < 0.1 * np.sqrt(np.mean(forces[0] ** 2))


def test_what_does_not_fit_is_refused_before_the_training(trained, tmp_path):
    tuner = trained.settings.model_copy(update={"base": trained.base, "warm_steps": None})

    def refusal(settings: MaceSettings, frames: Frames, *elements: str) -> str:
        with pytest.raises(InputError) as told:
            settings.train([frames], type_map=elements, seed=1, folder=tmp_path)
        return str(told.value)

    frames = trained.frames
    assert "does not know Ag" in refusal(tuner, frames, "Au", "Cu", "Ag")
    spread = np.linspace(0, 10, len(frames))
    other_level = replace(frames, energies=frames.energies + spread)
    assert "level of theory" in refusal(tuner, other_level, "Au", "Cu")
    no_gpu = tuner.model_copy(update={"device": "cuda:7"})
    assert "train.device: cuda:7" in refusal(no_gpu, frames, "Au", "Cu")
    (tmp_path / "checkpoint.pt").write_bytes(b"weights of something")
    no_model = tuner.model_copy(update={"base": str(tmp_path / "checkpoint.pt")})
    assert "another version" in refusal(no_model, frames, "Au", "Cu")
    assert not list(tmp_path.glob("results"))


def test_a_model_of_another_start_is_no_warm_start(trained, tmp_path):
    tuner = trained.settings.model_copy(update={"channels": 8})
    given = trained.training.model
    begun = begin(tuner, given, [trained.frames], ["Au", "Cu"], Copy("float64", 0.0, 1), tmp_path)
    assert not begun.warm
    assert "channels was 4, now it is 8" in begun.obstacle
    assert json.loads((tmp_path / "energies.json").read_text()).keys() == {"29", "79"}


def test_the_check_looks_at_environment_base_and_replay(trained, tmp_path):
    write(tmp_path / "replay.extxyz", to_ase(alloy("Au Au Au Cu", 2, seed=7)))
    section = MaceSection(
        python=trained.settings.python, base=trained.base, replay=str(tmp_path / "replay.extxyz")
    )
    found = list(look_at_code(section, ["Au", "Cu"]))
    assert [(each.level, each.key) for each in found] == [
        ("ok", "train.python"),
        ("ok", "train.base"),
        ("ok", "train.replay"),
    ]
    lacking = section.model_copy(update={"replay": str(tmp_path / "nothing.xyz")})
    levels = [each.level for each in look_at_code(lacking, ["Au", "Li"])]
    assert levels == ["ok", "error", "error"]
