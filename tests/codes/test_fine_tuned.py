"""Fine-tuning of the universal potentials whose weights come with their packages."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fine_tuned_salt import N_TRAINED, labelled, salt, train

from ionloop.codes import potentials
from ionloop.codes.common.ase import calculate, without_known_warnings
from ionloop.codes.common.prediction import force_errors
from ionloop.codes.common.progress import advance_of
from ionloop.codes.common.training import Training, TrainingError
from ionloop.codes.finetuning.checkpoint import CURVE, read_state
from ionloop.codes.finetuning.elements import ELEMENTS
from ionloop.codes.finetuning.references import drift
from ionloop.codes.forcefield.model import calculator
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.codes.sevennet.settings import SevennetSettings
from ionloop.preflight.codes.base import look_at_code, look_at_known_labels
from ionloop.runfile.sections.chgnet import ChgnetSection
from ionloop.runfile.sections.sevennet import SevennetSection
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import StoredFile

BASES = {"sevennet": "7net-0", "chgnet": "chgnet"}
LABELLERS = {"sevennet": "chgnet", "chgnet": "7net-0"}
SECTIONS = {"sevennet": SevennetSection, "chgnet": ChgnetSection}
SCRIPT = Path(__file__).with_name("fine_tuned_salt.py")
PATIENCE = 100  # seconds


@dataclass(frozen=True)
class Tuned:
    """A short fine-tuning."""

    code: str
    frames: Frames
    training: Training


def tuned_with(code: str, folder: Path) -> Tuned:
    frames = labelled(LABELLERS[code])
    return Tuned(code, frames, train(code, frames, folder))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return tuned_with("chgnet", tmp_path_factory.mktemp("chgnet"))


@pytest.fixture(scope="module", params=LABELLERS)
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    if request.param == "chgnet":
        return request.getfixturevalue("tuned")
    return tuned_with(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def process(either: Tuned, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    names = ("positions", "cells", "energies", "forces", "virials")
    np.savez(tmp_path / "labels.npz", **{name: getattr(either.frames, name) for name in names})
    labels, folder = tmp_path / "labels.npz", tmp_path / "killed"
    command = [sys.executable, str(SCRIPT), either.code, str(labels), str(folder)]
    with subprocess.Popen(command) as running:
        yield running
        running.kill()


def test_the_error_falls_and_the_file_is_the_model(either: Tuned, tmp_path: Path) -> None:
    trained, curve = either.training, either.training.learning_curve
    assert curve["step"].tolist() == [0, 2, 4, 6, 8]
    assert curve["rmse_f_trn"][-1] < 0.7 * curve["rmse_f_trn"][0]
    assert curve["rmse_f_val"].min() < 0.8 * curve["rmse_f_val"][0]
    held = either.frames[N_TRAINED:]
    read = force_errors([potentials.predict(either.code, [trained.model], held, tmp_path)], [held])
    assert read.model_dump() == pytest.approx(trained.validation_errors.model_dump(), rel=1e-3)
    assert read.virial_mev_per_atom < 100
    assert trained.base.name == BASES[either.code]
    assert (trained.steps, trained.warm_start, trained.obstacle) == (8, False, "")


def test_the_energies_keep_the_zero_of_the_labels(tuned: Tuned, tmp_path: Path) -> None:
    learned = tuned.frames[:N_TRAINED]
    trained = train("chgnet", tuned.frames, tmp_path, alone=True, steps=2)
    read = potentials.predict("chgnet", [trained.model], learned, tmp_path)
    assert drift([learned], [read]) == pytest.approx(0, abs=1e-5)


def test_a_killed_training_ends_with_the_same_bits(
    either: Tuned, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    wait_for(lambda: len((folder / CURVE).read_text().splitlines()) > 3, process)
    process.kill()
    process.wait()
    step = read_state(folder).step
    assert 2 <= step < 8
    assert advance_of([folder]).words.endswith("of 8")
    resumed = train(either.code, either.frames, folder)
    assert resumed.model.content == either.training.model.content
    found, wanted = (each.learning_curve for each in (resumed, either.training))
    assert all(found[name].tolist() == wanted[name].tolist() for name in wanted.names)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, "the training ended too early"
        try:
            if condition():
                return
        except FileNotFoundError:
            pass
        time.sleep(0.01)
    raise TimeoutError


def test_another_seed_gives_another_model(tuned: Tuned, tmp_path: Path) -> None:
    models = [train("chgnet", tuned.frames, tmp_path, seed=n, steps=2).model for n in (2, 3)]
    first, second = (
        potentials.predict("chgnet", [model], salt(), tmp_path).forces[0] for model in models
    )
    deviation = np.sqrt(np.mean((first - second) ** 2))
    assert 1e-3 < deviation < 0.1


def test_a_training_continues_with_the_model_of_the_last_turn(tuned: Tuned, tmp_path: Path) -> None:
    last = tuned.training
    given = {"checkpoint": last.checkpoint, "warm_steps": 2, "alone": True}
    warm = train("chgnet", tuned.frames, tmp_path, **given)
    assert (warm.steps, warm.warm_start, warm.base) == (2, True, last.base)
    before = last.train_errors.force_mev_per_angstrom
    assert 1000 * warm.learning_curve["rmse_f_trn"][0] < 2 * before


@pytest.mark.parametrize("code", LABELLERS)
def test_a_training_from_scratch_continues_one_of_the_same_network(
    code: str, tuned: Tuned, tmp_path: Path
) -> None:
    sizes = {"sevennet": {"channels": 4, "lmax": 1}, "chgnet": {"features": 8}}
    network: dict[str, Any] = {
        **sizes[code],
        "layers": 2,
        "steps": 2,
        "base": "scratch",
        "alone": True,
    }
    cold = train(code, tuned.frames, tmp_path, **network)
    assert (cold.steps, cold.warm_start, cold.base) == (2, False, None)
    again = network | {"warm_steps": 1, "checkpoint": cold.checkpoint}
    assert train(code, tuned.frames, tmp_path, **again).warm_start
    other = train(code, tuned.frames, tmp_path, **again | {"layers": 3, "steps": 1})
    assert not other.warm_start
    assert "layers was 2, now it is 3" in other.obstacle


def test_frozen_weights_stay(tuned: Tuned, tmp_path: Path) -> None:
    given = {"freeze": "all_but_readout", "steps": 1, "alone": True}
    train("chgnet", tuned.frames, tmp_path, **given)
    found, base = read_state(tmp_path).model, weights(ChgnetSection().base_path())
    changed = {name for name in base if not np.array_equal(base[name], found[name])}
    assert "composition_model.fc.weight" in changed
    assert any(name.startswith("mlp.") for name in changed)
    assert not any(name.startswith(("atom", "bond", "angle")) for name in changed)


def weights(path: Path) -> dict[str, Any]:
    import torch

    saved: dict[str, Any] = torch.load(path, weights_only=False, map_location="cpu")["model"]
    return saved["state_dict"]


def test_frozen_blocks_of_sevennet() -> None:
    settings = SevennetSettings()
    with without_known_warnings():
        net = settings.open(settings.base_path())
    for n_blocks in (-1, 0, 2, 9):
        net.freeze(n_blocks)
        names = {name for name, weight in net.module.named_parameters() if weight.requires_grad}
        assert ("onehot_to_feature_x.linear.weight" in names) == (n_blocks < 0)
        assert ("1_self_interaction_1.linear.weight" in names) == (n_blocks < 2)
        assert ("4_self_interaction_1.linear.weight" in names) == (n_blocks < 5)
    assert names == {
        "reduce_input_to_hidden.linear.weight",
        "reduce_hidden_to_energy.linear.weight",
    }
    assert net.elements == ELEMENTS["7net-0"]


def test_a_training_that_stands_still_stops(tuned: Tuned, tmp_path: Path) -> None:
    given = {"learning_rate": 1e-12, "patience": 1, "check_every": 1, "alone": True}
    stopped = train("chgnet", tuned.frames, tmp_path, **given)
    assert stopped.steps == 1
    assert stopped.train_errors.n_frames == N_TRAINED


def test_a_training_that_breaks_down_says_so(tuned: Tuned, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite at step \d+; lower train.learning_rate"):
        train("chgnet", tuned.frames, tmp_path, learning_rate=1e30)


def test_labels_of_another_level_are_refused_before_training(tuned: Tuned, tmp_path: Path) -> None:
    far = replace(tuned.frames, energies=tuned.frames.energies + np.arange(5.0))
    with pytest.raises(InputError, match="level of theory far from"):
        train("chgnet", far, tmp_path, alone=True)
    assert not (tmp_path / CURVE).exists()


@pytest.mark.parametrize("code", LABELLERS)
def test_a_file_that_is_no_checkpoint_is_refused(code: str, tmp_path: Path) -> None:
    (tmp_path / "own.pth").write_bytes(b"nothing")
    section = SECTIONS[code](base=str(tmp_path / "own.pth"))
    with pytest.raises(InputError, match=r"own\.pth is no (checkpoint|model file) of"):
        section.open(section.base_path())
    (finding,) = look_at_code(section, ["Li"])
    assert (finding.level, finding.key) == ("error", "train.base")


@pytest.mark.parametrize("code", LABELLERS)
def test_the_check_looks_at_device_base_and_elements(code: str) -> None:
    (finding,) = look_at_code(SECTIONS[code](), ["Li", "F"])
    assert finding.level == "ok"
    assert "knows Li, F; it is fine-tuned with" in finding.sentence
    bad = SECTIONS[code](device="cuda:99", patience=3, validation_fraction=0.0)
    assert [(each.level, each.key) for each in look_at_code(bad, ["Po"])] == [
        ("error", "train.device"),
        ("warning", "train.patience"),
        ("error", "train.base"),
    ]


def test_the_check_compares_labels_that_are_there_with_the_base(tuned: Tuned) -> None:
    section = ChgnetSection()
    (finding,) = look_at_known_labels(section, [tuned.frames])
    assert (finding.level, finding.key) == ("ok", "initial.data")
    assert "from the labels of 5 frames" in finding.sentence
    other_units = replace(tuned.frames, forces=tuned.frames.forces / 51.4)
    (finding,) = look_at_known_labels(section, [other_units])
    assert finding.level == "error"
    assert "times (train.max_force_ratio) the smaller of" in finding.sentence
    unknown = replace(tuned.frames, symbols=("Po",) * 4)
    for silent in (unknown, tuned.frames.unlabelled()):
        assert list(look_at_known_labels(section, [silent])) == []


def test_a_checkpoint_of_a_later_version_is_refused(tmp_path: Path) -> None:
    import torch

    settings = SevennetSettings()
    content = torch.load(settings.base_path(), weights_only=False, map_location="cpu")
    content["config"]["version"] = "99.0.0"
    torch.save(content, tmp_path / "later.pth")
    with pytest.raises(InputError, match=r"SevenNet 99\.0\.0, a later version than that here"):
        settings.open(tmp_path / "later.pth")


def test_a_base_of_several_functionals(tmp_path: Path) -> None:
    with without_known_warnings():
        settings = SevennetSettings(base="7net-mf-0", modal="pbe")
        net = settings.open(settings.base_path())
        with pytest.raises(InputError, match=r"train\.modal: .* no hse; it knows R2SCAN, PBE"):
            settings.model_copy(update={"modal": "HSE"}).open(settings.base_path())
    frame = salt()[0]
    known = calculate(calculator(ForceFieldSettings(model="7net-mf-0")), frame)
    net.shift_energies({"Li": 0.5, "F": -0.25})
    found = potentials.predict("sevennet", [StoredFile("m.pth", net.to_bytes())], frame, tmp_path)
    assert found.forces[0, 0] == pytest.approx(known.forces, abs=1e-5)
    assert found.energies[0, 0] == pytest.approx(known.energy + 2 * (0.5 - 0.25), abs=1e-4)
    virial = net.predict(frame, [net.graph(frame)]).virials[0, 0]
    assert virial == pytest.approx(known.virial, abs=1e-3)
