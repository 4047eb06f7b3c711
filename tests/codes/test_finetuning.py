"""What every fine-tuning shares, without a potential: schedule, draws, references, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from monty.json import MontyDecoder
from pydantic import ValidationError

from ionloop.codes.chgnet.settings import ChgnetSettings
from ionloop.codes.common.prediction import Prediction
from ionloop.codes.common.progress import advance_of
from ionloop.codes.finetuning.checkpoint import CURVE, SCRIPT, State, curve_of, write_curve
from ionloop.codes.finetuning.device import check_device
from ionloop.codes.finetuning.elements import ELEMENTS, others_with
from ionloop.codes.finetuning.loop import spread
from ionloop.codes.finetuning.references import drift, fit_references
from ionloop.codes.finetuning.schedule import batch, drawn, learning_rate
from ionloop.codes.finetuning.training import obstacle_to
from ionloop.codes.sevennet.settings import SevennetSettings
from ionloop.runfile.sections.base import Production
from ionloop.runfile.sections.chgnet import ChgnetSection
from ionloop.runfile.sections.registry import section_type
from ionloop.runfile.sections.sevennet import SevennetSection
from ionloop.schemas.errors import InputError, MissingFileError
from ionloop.schemas.frames import Frames


def frames_of(symbols: str, energies: list[float]) -> Frames:
    names, f = symbols.split(), len(energies)
    positions = np.random.default_rng(0).random((f, len(names), 3))
    cells = np.repeat(10 * np.eye(3)[None], f, axis=0)
    return Frames(tuple(names), positions, cells, np.array(energies), np.zeros_like(positions))


def test_the_learning_rate_rises_and_falls_to_zero():
    rates = [learning_rate(step, 100, 20, 1e-3) for step in range(100)]
    assert rates[:20] == pytest.approx([1e-3 * (step + 1) / 20 for step in range(20)])
    assert rates[20] == pytest.approx(1e-3)
    assert np.all(np.diff(rates[20:]) < 0)
    assert rates[60] == pytest.approx(5e-4)
    assert rates[99] < 1e-6


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_short_training_rises_for_a_quarter_at_most(steps):
    rates = [learning_rate(step, steps, 20, 1.0) for step in range(steps)]
    assert rates[steps // 4] == 1.0
    assert min(rates) > 0


def test_every_epoch_takes_every_frame_once_in_an_order_of_its_own():
    seen = [number for step in range(8) for number in batch(step, 5, 3, seed=4)]
    epochs = [seen[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert batch(0, 50, 50, seed=1) != batch(0, 50, 50, seed=2)


def test_a_bootstrap_draws_with_repetition():
    draws = [drawn(200, seed, bootstrap=True) for seed in (1, 2)]
    assert not np.array_equal(draws[0], draws[1])
    share = np.mean([len(set(draw)) / 200 for draw in draws])
    assert share == pytest.approx(1 - np.exp(-1), abs=0.06)
    assert drawn(4, 1, bootstrap=False).tolist() == [0, 1, 2, 3]


def test_reference_energies_are_found_again():
    shifts = {"Li": 1.5, "F": -0.25}
    parts = [frames_of("Li F", [0, 0]), frames_of("Li Li F", [0.0])]
    labelled = [
        replace(part, energies=part.energies + sum(shifts[symbol] for symbol in part.symbols))
        for part in parts
    ]
    fit = fit_references(labelled, [part.energies for part in parts])
    assert fit.shifts == pytest.approx(shifts)
    assert fit.residual == pytest.approx(0, abs=1e-12)


def predicted(part: Frames, energy: float, forces: np.ndarray) -> Prediction:
    virials = np.zeros((1, len(part), 3, 3))
    return Prediction(np.full((1, len(part)), energy), forces[None], virials)


def test_energies_of_another_level_are_refused():
    part = frames_of("Li F", [-10.0, -10.0, -9.0, -10.4])
    forces = np.random.default_rng(1).standard_normal(part.positions.shape)
    labelled = replace(part, forces=forces)
    settings, same = SevennetSettings(), predicted(part, -9.0, forces)
    with pytest.raises(InputError, match=r"0\.259 eV/atom.*level of theory.*max_residual"):
        settings.check_labels([labelled], [same], "7net-0")
    SevennetSettings(max_residual=0.3).check_labels([labelled], [same], "7net-0")


@pytest.mark.parametrize(
    ("unit", "fits"), [(0.8, True), (1.3, True), (-1.0, False), (1 / 51.4, False), (23.06, False)]
)
def test_forces_in_other_units_are_refused(unit, fits):
    # Soft forces are the base's own fault; another sign, Hartree/Bohr and kcal/mol/Å the labels'.
    # With one composition and one energy, the energies say nothing.
    part = frames_of("Li F", [-10.0, -10.0])
    true = np.random.default_rng(1).standard_normal(part.positions.shape)
    labelled, base = replace(part, forces=unit * true), predicted(part, -9.0, true)
    if fits:
        SevennetSettings().check_labels([labelled], [base], "7net-0")
        return
    with pytest.raises(InputError, match=r"forces differ from those of 7net-0.*max_force_ratio"):
        SevennetSettings().check_labels([labelled], [base], "7net-0")
    SevennetSettings(max_force_ratio=60).check_labels([labelled], [base], "7net-0")


def test_the_drift_of_energies_is_that_of_an_atom():
    parts = [frames_of("Li F", [-10.0, -12.0]), frames_of("Li Li F", [-9.0])]
    predictions = [predicted(part, -12.0, np.zeros_like(part.positions)) for part in parts]
    assert drift(parts, predictions) == pytest.approx((1.0 + 0.0 + 1.0) / 3)


def test_a_frame_without_a_label_is_refused():
    part = frames_of("Li F", [0.0]).unlabelled()
    with pytest.raises(InputError, match="has no energies"):
        fit_references([part], [np.zeros(1)])


def test_a_missing_element_is_named_with_the_bases_that_have_it():
    known = ELEMENTS["7net-0"]
    settings = SevennetSettings(base="of_sulfides.pth")
    settings.check_elements(known, ["Li", "Pu"])
    with pytest.raises(InputError, match=r"of_sulfides\.pth does not know F; these do: 7net-0, "):
        settings.check_elements({"Li", "S"}, ["Li", "F"])
    with pytest.raises(InputError, match=r"does not know Po; no base that comes .* scratch"):
        settings.check_elements(known, ["Po"])
    assert others_with(["Po"]) == []


def test_a_device_that_is_not_there_is_refused():
    check_device("cpu", "train.device")
    with pytest.raises(InputError, match=r"train\.device: cuda:99 is asked for.*sees \d+ GPUs"):
        check_device("cuda:99", "train.device")
    with pytest.raises(InputError, match="'gpu' is no device of torch"):
        check_device("gpu", "train.device")


def test_a_base_that_is_not_there_is_refused():
    with pytest.raises(MissingFileError, match=r"neither a file nor a base.*7net-l3i5.*scratch"):
        SevennetSettings(base="7net-omni").base_path()


def test_a_training_from_scratch_needs_steps():
    with pytest.raises(ValidationError, match="base: scratch needs steps"):
        SevennetSettings(base="scratch")


@pytest.mark.parametrize(
    ("freeze", "frozen"), [("none", -1), ("embedding", 0), (2, 2), ("all_but_readout", 5)]
)
def test_frozen_blocks(freeze, frozen):
    assert ChgnetSettings(freeze=freeze).frozen_blocks(5) == frozen


def test_steps_grow_with_the_frames():
    settings = SevennetSettings(warm_steps=7)
    assert [settings.training_steps(n, False) for n in (10, 30, 100)] == [80, 125, 202]
    assert settings.training_steps(100, True) == 7


def test_a_model_that_began_otherwise_is_not_continued():
    assert obstacle_to({"base": "chgnet", "sha256": "a"}, {"base": "chgnet", "sha256": "a"}) == ""
    reason = obstacle_to({"base": "x.pth", "sha256": "a"}, {"base": "x.pth", "sha256": "b"})
    assert "sha256 was a, now it is b" in reason


def test_frames_to_compare_are_spread():
    assert spread(range(3), 5) == [0, 1, 2]
    assert spread(range(101), 3) == [0, 50, 100]


def test_a_learning_curve_is_read_as_progress(tmp_path):
    rows = [{"step": step, "rmse_f_trn": 0.1, "lr": 1e-3} for step in (0, 20)]
    write_curve(rows, tmp_path)
    (tmp_path / SCRIPT).write_text(json.dumps({"training": {"numb_steps": 80}}))
    assert advance_of([tmp_path]).words == "training step 20 of 80"
    assert (tmp_path / CURVE).read_text().startswith("# step rmse_f_trn lr\n0 1.0")
    assert curve_of(State(rows=rows))["step"].tolist() == [0, 20]


@pytest.mark.parametrize(
    ("code", "kind"), [("sevennet", SevennetSection), ("chgnet", ChgnetSection)]
)
def test_a_section_makes_its_maker(code, kind):
    section = section_type("train", {"code": code}).model_validate({"code": code, "n_models": 2})
    assert isinstance(section, kind)
    maker = section.maker(["Li", "S"])
    assert (maker.kind, maker.n_models, maker.settings.base) == (code, 2, section.base)
    assert type(maker.settings) is section.settings_type
    assert MontyDecoder().process_decoded(maker.as_dict()) == maker


def test_a_local_base_is_found_beside_the_run_file(tmp_path):
    (tmp_path / "own.pth").touch()
    assert SevennetSection(base="own.pth").located(tmp_path).base == str(tmp_path / "own.pth")
    assert SevennetSection(base="7net-0").located(tmp_path).base == "7net-0"


def test_the_production_begins_with_the_base_unless_the_turns_start_warm():
    cold = SevennetSection().for_production(Production(steps=500))
    assert (cold.steps, cold.warm_steps, cold.n_models) == (500, None, 1)
    warm = SevennetSection(warm_steps=20)
    assert warm.for_production(Production()).warm_steps == 20
    assert warm.for_production(Production(steps=500)).warm_steps == 500
    assert warm.for_production(Production(warm_start=False)).warm_steps is None


def test_a_production_of_another_base_is_another_network():
    section = SevennetSection()
    assert section.other_network(SevennetSection(learning_rate=1e-4)) == []
    assert section.other_network(SevennetSection(base="7net-l3i5")) == ["base"]
    assert section.other_network(SevennetSection(modal="PBE")) == ["modal"]
    assert section.other_network(ChgnetSection()) == ["code"]
    scratch = SevennetSection(base="scratch", steps=10)
    assert scratch.other_network(SevennetSection(base="scratch", steps=9, lmax=1)) == ["lmax"]


def test_settings_are_described(tmp_path: Path):
    assert SevennetSection().description == "models fine-tuned from 7net-0"
    assert ChgnetSection(base="scratch", steps=9).description == "chgnet models from scratch"
    assert SevennetSection().start == "from 7net-0"
