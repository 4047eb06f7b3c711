"""Fine-tuning of DPA models: the base is read, refused or prepared; a real one is fine-tuned."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dpa_children import ELEMENTS, TYPE_MAP, crystals, overlay
from pydantic import ValidationError

from ionloop.codes import deepmd
from ionloop.codes.deepmd.data import Systems
from ionloop.codes.dpa import DpaSettings, inputs, pretrained, program, training
from ionloop.codes.dpa.pretrained import Pretrained, read_base, read_trained
from ionloop.codes.dpa.training import CHECKPOINT, Task
from ionloop.jobs.train.dpa import DpaTrainMaker
from ionloop.preflight.codes.base import look_at_code, training_seconds
from ionloop.preflight.codes.dpa import _look_at_base
from ionloop.runfile.sections.dpa import DpaSection
from ionloop.runfile.sections.registry import section_type
from ionloop.schemas.errors import InputError, MissingFileError
from ionloop.schemas.potential import Base

torch = pytest.importorskip("torch")

CHILD = Path(__file__).with_name("dpa_children.py")
LAST = "atomic_model.fitting_net.filter_layers.{}.0.layers.2.matrix"


def section(kind: str = "dpa3", elements: list[str] = ELEMENTS, **more: Any) -> dict[str, Any]:
    return {
        "type_map": elements,
        "descriptor": {"type": kind, "seed": 7},
        "fitting_net": {"neuron": [4, 4], "seed": 7},
        **more,
    }


def weights(branch: str, value: float) -> dict[str, Any]:
    names = ["atomic_model.out_bias", *(LAST.format(name) for name in ("networks", "_networks"))]
    tensor = torch.linspace(value, value + 1, 4).reshape(4, 1)
    return {f"model.{branch}.{name}": tensor for name in names}


def write(path: Path, params: dict[str, Any], state: dict[str, Any]) -> Path:
    extra = {"model_params": params, "train_infos": {"step": 1}}
    torch.save({"model": {**state, "_extra_state": extra}, "optimizer": {}}, path)
    return path


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return write(tmp_path / "one.pt", section(), weights("Default", 0.0))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    branches = {"Omat24": section(model_branch_alias=["Crystals"]), "SPICE2": section()}
    state = {**weights("Omat24", 0.0), **weights("SPICE2", 5.0)}
    return write(tmp_path / "two.pt", {"model_dict": branches}, state)


def settings(path: Path, **more: Any) -> DpaSettings:
    return DpaSettings(base=str(path), **more)


# --- the base ----------------------------------------------------------------------------------


def test_a_branch_becomes_a_model_of_its_own(two: Path):
    read = read_base(two, "SPICE2")
    assert read.branch == "SPICE2"
    assert read.type_map == ELEMENTS
    assert sorted(read.state) == sorted(weights("Default", 5.0))
    assert float(read.state["model.Default.atomic_model.out_bias"][0]) == 5.0


@pytest.mark.parametrize("name", ["crystals", "omat24"])
def test_a_branch_goes_by_its_alias_too(two: Path, name: str):
    assert read_base(two, name).branch == "Omat24"


@pytest.mark.parametrize("name", [None, "Omat25"])
def test_the_branches_are_listed(two: Path, name: str | None):
    with pytest.raises(InputError, match=r"train\.branch: .*Omat24, SPICE2; .*RANDOM"):
        read_base(two, name)


def test_a_model_without_branches_has_none(one: Path):
    assert read_base(one, None).branch is None
    assert read_base(one, "RANDOM").branch == "RANDOM"
    with pytest.raises(InputError, match="has no branches, so Omat24"):
        read_base(one, "Omat24")


def test_files_that_are_no_base_are_refused(tmp_path: Path):
    other, text, frozen = tmp_path / "other.pt", tmp_path / "text.pt", tmp_path / "model.pth"
    torch.save({"weights": torch.zeros(3)}, other)
    text.write_text("no checkpoint")
    frozen.touch()
    with pytest.raises(InputError, match="no checkpoint of DeePMD-kit's backend for PyTorch"):
        read_base(other, None)
    with pytest.raises(InputError, match="cannot be read as a checkpoint of torch"):
        read_base(text, None)
    with pytest.raises(InputError, match="is frozen and cannot be trained any more"):
        read_base(frozen, None)
    with pytest.raises(MissingFileError, match="nothing is downloaded"):
        read_base(tmp_path / "absent.pt", None)


def test_a_descriptor_of_its_own_elements_is_no_base(tmp_path: Path):
    path = write(tmp_path / "own.pt", section("se_e2_a"), weights("Default", 0.0))
    with pytest.raises(InputError, match="descriptor se_e2_a, whose nets belong"):
        read_base(path, None)


def test_a_missing_element_is_named():
    with pytest.raises(InputError, match=r"one\.pt does not know Ge, S; it knows 5 elements"):
        pretrained.check_elements(ELEMENTS, ["Li", "Ge", "S", "Ge"], "one.pt")


def test_low_rank_changes_are_for_dpa4(one: Path, tmp_path: Path):
    four = write(tmp_path / "four.pt", section("DPA4"), weights("Default", 0.0))
    pretrained.check_lora(read_base(four, None), 4)
    with pytest.raises(InputError, match=r"train\.lora: .*one\.pt is none"):
        pretrained.check_lora(read_base(one, None), 4)


def test_the_readout_is_changed_by_the_seed_and_nothing_else(one: Path):
    base = read_base(one, None)
    changed = [base.with_changed_readout(0.05, seed).state for seed in (1, 2)]
    first, second = (f"model.Default.{LAST.format(name)}" for name in ("networks", "_networks"))
    for state in changed:
        assert torch.equal(state[first], state[second])
        assert 0 < float((state[first] - base.state[first]).std()) < 0.2
        bias = "model.Default.atomic_model.out_bias"
        assert torch.equal(state[bias], base.state[bias])
    assert not torch.equal(changed[0][first], changed[1][first])


def test_the_readout_of_dpa4_is_found():
    names = [f"a.fitting_net.b.{layer}.matrix" for layer in ("layers.0", "output_layer")]
    assert list(pretrained._readout(dict.fromkeys(names))) == names[1:]


def test_a_checkpoint_says_what_it_was_fine_tuned_from(two: Path, tmp_path: Path):
    base = read_base(two, "SPICE2")
    base.write(tmp_path / "again.pt")
    again = read_trained(tmp_path / "again.pt")
    assert (again.base, again.branch, again.params) == (base.base, "SPICE2", base.params)
    assert again.state.keys() == base.state.keys()


# --- the input ---------------------------------------------------------------------------------


def test_the_input_is_that_of_the_base_with_our_training(one: Path):
    how = settings(one, freeze="descriptor", stress_weight=0.1, check_every=10)
    base = read_base(one, None)
    model = inputs.model_section(base.params, how, seed=3)
    assert model["type_map"] == ELEMENTS
    assert model["descriptor"] == {"type": "dpa3", "seed": 7, "trainable": False}
    assert model["fitting_net"]["seed"] == 3
    systems = Systems(["training/0"], ["validation/0"], has_virials=False)
    script = inputs.input_script(how, model, systems, steps=40, warm=False)
    assert script["learning_rate"] | {"type": "cosine", "start_lr": 1e-3} == script["learning_rate"]
    assert script["learning_rate"]["warmup_steps"] == 10
    assert script["loss"]["start_pref_v"] == 0
    assert script["validating"]["validation_freq"] == 10
    alone = inputs.input_script(how, model, replace(systems, validation=()), steps=40, warm=True)
    assert "validating" not in alone
    assert alone["learning_rate"]["start_lr"] == how.warm_learning_rate


def test_stalling_is_seen_in_the_log(tmp_path: Path):
    log = tmp_path / "val.log"
    assert not program.is_stalled(log, 1)
    best = "# saved best checkpoint: best.ckpt-10.t-1.pt\n"
    log.write_text(f"# step\n 10 1.0\n{best} 20 2.0\n 30 2.0\n")
    assert not program.is_stalled(log, 2)
    assert not program.is_stalled(log, None)
    log.write_text(f"{log.read_text()} 40 2.0\n")
    assert program.is_stalled(log, 2)
    log.write_text(f"{log.read_text()}{best}")
    assert not program.is_stalled(log, 2)


def test_a_device_is_passed_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert program.device_variables("cpu")["DEVICE"] == "cpu"
    assert "CUDA_VISIBLE_DEVICES" not in program.device_variables("cuda")
    assert program.device_variables("cuda:1")["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert program.device_variables("cuda:1")["CUDA_VISIBLE_DEVICES"] == "6"


# --- where a training starts -------------------------------------------------------------------


def task(folder: Path, earlier: Pretrained | None = None, **more: Any) -> Task:
    given = {"training": [crystals(8, 1, 0.5, 0.0)], "validation": [], "type_map": TYPE_MAP}
    checkpoint = earlier.packed(CHECKPOINT) if earlier else None
    values = {"seed": 1, "folder": folder, "checkpoint": checkpoint, "alone": False}
    return Task(**(given | values | more))


def test_a_training_starts_from_the_last_turns_model_of_the_same_base(two: Path, tmp_path: Path):
    how = settings(two, branch="SPICE2", warm_steps=10)
    base = read_base(two, "SPICE2")
    start = training._starting_point(how, task(tmp_path, base))
    assert (start.warm, start.obstacle) == (True, "")
    cold = training._starting_point(settings(two, branch="SPICE2"), task(tmp_path, base))
    assert not cold.warm
    other = replace(base, base=Base(name="older.pt", sha256="1"))
    start = training._starting_point(how, task(tmp_path, other))
    assert not start.warm
    assert "another base or branch, older.pt (SPICE2)" in start.obstacle


def test_models_draw_other_frames(one: Path, tmp_path: Path):
    draws = [
        training._drawn_frames(settings(one), task(tmp_path, seed=seed, alone=alone))
        for seed, alone in ((1, False), (2, False), (1, True))
    ]
    assert [sum(map(len, frames)) for frames in draws] == [8, 8, 8]
    first, second, all_frames = ({i for part in frames for i in part.ids} for frames in draws)
    assert len(all_frames) == 8
    assert first != second
    assert first < all_frames


def test_a_torch_that_does_not_fit_is_told_before_the_training(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    env = pytest.importorskip("deepmd.env")
    monkeypatch.setitem(env.GLOBAL_CONFIG, "pt_version", "1.2.3")
    match = r"train\.code: dpa does not run here: .*1\.2\.3.*deepmd-gpu-torch"
    with pytest.raises(deepmd.MissingProgramError, match=match):
        training.fine_tune(settings(one), task(tmp_path))
    finding = next(iter(look_at_code(DpaSection(base=str(one)), ["Li"])))
    assert (finding.level, finding.key) == ("error", "train.command")


# --- the run file ------------------------------------------------------------------------------


def test_the_section_builds_the_maker(one: Path):
    given = {"code": "dpa", "base": one.name, "branch": "RANDOM", "n_models": 2, "lora": 4}
    dpa = section_type("train", given).model_validate(given).located(one.parent)
    assert isinstance(dpa, DpaSection)
    maker = dpa.maker(["Li", "Cl"])
    assert isinstance(maker, DpaTrainMaker)
    assert maker.settings == DpaSettings(base=str(one), branch="RANDOM", lora=4)
    assert maker.kind == "deepmd"
    assert dpa.other_network(dpa.model_copy(update={"branch": "Omat24"})) == ["branch"]
    with pytest.raises(ValidationError, match="code: deepmd, with backend: pytorch"):
        DpaSection(base="scratch")


@pytest.mark.parametrize(
    ("given", "elements", "level", "key", "words"),
    [
        ({"branch": "Omat24"}, ["Li"], "ok", "train.base", "knows Li and 4 other elements"),
        ({"branch": "Omat24"}, ["Ge"], "error", "train.base", "does not know Ge"),
        ({}, ["Li"], "error", "train.branch", "Omat24, SPICE2"),
        ({"branch": "Omat24", "lora": 2}, ["Li"], "error", "train.lora", "DPA-4 only"),
    ],
)
def test_check_looks_at_the_base(two: Path, given, elements, level, key, words):
    (finding,) = _look_at_base(DpaSection(base=str(two), **given), elements)
    assert (finding.level, finding.key) == (level, key)
    assert words in finding.sentence


def test_the_time_on_a_gpu_is_not_known(one: Path):
    cpu, gpu = (DpaSection(base=str(one), steps=100, device=name) for name in ("cpu", "cuda"))
    assert training_seconds(cpu, 50, warm=False) == pytest.approx(330)
    assert math.isnan(training_seconds(gpu, 50, warm=False))


# --- the real thing ----------------------------------------------------------------------------


def wait_for(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 600
    while not path.exists():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.02)


@pytest.mark.skipif(shutil.which("dp") is None, reason="DeePMD-kit is not installed")
@pytest.mark.integration
def test_a_killed_fine_tuning_goes_on_and_delivers_the_elements_of_the_run(tmp_path: Path):
    command, variables = [sys.executable, str(CHILD), str(tmp_path)], overlay(tmp_path / "overlay")
    first = tmp_path / "first.log"
    with (
        first.open("wb") as log,
        subprocess.Popen(
            command, env=variables, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        # DeePMD-kit writes this file once its first checkpoint is complete.
        wait_for(tmp_path / "run" / "checkpoint", process, first)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "result.json").exists()
    again = subprocess.run(
        command, env=variables, capture_output=True, text=True, check=False, timeout=600
    )
    assert not again.returncode, again.stderr[-3000:]
    assert "Resuming from model.ckpt" in (tmp_path / "run" / "train.log").read_text()
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["steps"] == 80
    assert result["curve"] == [1, *range(20, 81, 20)]
    assert result["after"]["force_mev_per_angstrom"] < 0.8 * result["before"]
    # The base's energies are 2.5 eV per atom off: the reference energies were fitted to the labels.
    assert result["after"]["energy_mev_per_atom"] < 100
    assert (result["kept"], result["branch"]) == (ELEMENTS, "first")
    assert [bias == 0 for bias in result["biases"]] == [True, False, True, False, True]
    assert result["delivered"] == TYPE_MAP
    by_ase, by_us = result["energies"]
    assert by_ase == pytest.approx(by_us, rel=1e-9)
    assert "Na is not in the type map ['Cl', 'Li']" in result["refused"]
