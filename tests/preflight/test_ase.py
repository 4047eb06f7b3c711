"""What the pre-flight check finds out about molecular dynamics with ASE calculators."""

from __future__ import annotations

from math import isnan
from typing import Any

import pytest

from ionloop.preflight.codes.base import look_at_models, step_seconds
from ionloop.runfile.sections.ase import AseSection
from ionloop.runfile.sections.base import TrainSection
from ionloop.runfile.sections.chgnet import ChgnetSection
from ionloop.runfile.sections.deepmd import DeepmdSection
from ionloop.runfile.sections.registry import section_type
from ionloop.runfile.sections.sevennet import SevennetSection

SEVENNET = SevennetSection.model_validate({"code": "sevennet"})


def section(**keys: Any) -> AseSection:
    made = section_type("explore", {"code": "ase"}).model_validate({"code": "ase", **keys})
    assert isinstance(made, AseSection)
    return made


def test_what_explores_is_told() -> None:
    (finding,) = look_at_models(section(), SEVENNET)
    assert (finding.level, finding.key) == ("ok", "explore.code")
    assert finding.sentence == (
        "ASE calculators of sevennet explore on cpu, one trajectory after another "
        "(batches gain nothing on cpu)"
    )


def test_a_device_that_is_not_there_is_told() -> None:
    torch = pytest.importorskip("torch")
    absent = f"cuda:{torch.cuda.device_count()}"
    (finding,) = look_at_models(section(device=absent), SEVENNET)
    assert (finding.level, finding.key) == ("error", "explore.device")
    assert finding.sentence.startswith(f"{absent} is asked for, and torch")
    (finding,) = look_at_models(section(device="gpu0"), SEVENNET)
    assert "no device of torch" in finding.sentence


def test_batches_that_cannot_be_are_told() -> None:
    chgnet = ChgnetSection.model_validate({"code": "chgnet"})
    (finding,) = look_at_models(section(batched="always"), chgnet)
    assert (finding.level, finding.key) == ("error", "explore.batched")
    assert "torch-sim evaluates sevennet here, not chgnet" in finding.sentence


@pytest.mark.parametrize(
    ("trainer", "seconds"),
    [
        (SEVENNET, 0.21),
        (SEVENNET.model_copy(update={"base": "7net-l3i5"}), 0.59),
        (ChgnetSection.model_validate({"code": "chgnet"}), 0.08),
        (DeepmdSection.model_validate({"code": "deepmd"}), 0.02),
    ],
)
def test_a_step_costs_an_evaluation_and_a_share_of_the_judges(
    trainer: TrainSection, seconds: float
) -> None:
    assert step_seconds(section(), trainer, 50, 1, 10) == pytest.approx(seconds)
    assert step_seconds(section(), trainer, 100, 4, 10) == pytest.approx(2 * 1.3 * seconds)
    assert isnan(step_seconds(section(device="cuda"), trainer, 50, 1, 10))
