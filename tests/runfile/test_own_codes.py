"""A code of a user's own in the run file: one new file, named by its import path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from own_codes import OwnLabelSection, OwnTrainSection  # type: ignore[import-not-found]

from ionloop.codes import deepmd, lammps
from ionloop.preflight.check import Report, check
from ionloop.preflight.inputs import Inputs
from ionloop.preflight.loop import look_at_explorer
from ionloop.runfile.errors import RunFileError, Source
from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import load, validate

GOLD_COPPER = Path(__file__).parents[1] / "toy/AuCu.vasp"


def written(folder: Path, text: str) -> RunFile:
    (folder / "run.yaml").write_text(f"structures: [{GOLD_COPPER}]\n{text}")
    return load(folder / "run.yaml")


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(RunFileError) as caught:
        written(folder, text)
    return str(caught.value).removeprefix(f"{folder}/run.yaml, ")


def checked(run_file: RunFile, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setattr(deepmd, "program_version", lambda command: "3.2.0")
    monkeypatch.setattr(deepmd, "check_backend", lambda backend: None)
    monkeypatch.setattr(lammps, "program_version", lambda command, kind: "22 Jul 2025")
    return check(run_file)


def sentences(report: Report, key: str) -> list[str]:
    return [finding.sentence for finding in report.findings if finding.key == key]


def test_a_section_is_found_by_its_import_path(tmp_path: Path) -> None:
    text = "label: {code: 'own_codes:OwnLabelSection', floor: 0.5}\n"
    run_file = written(tmp_path, text)
    assert type(run_file.label) is OwnLabelSection
    maker: Any = run_file.maker().label
    assert maker.settings.model == "ase.calculators.emt:EMT"
    assert maker.floor == 0.5


def test_it_is_found_again_in_the_store(tmp_path: Path) -> None:
    run_file = written(tmp_path, "label: {code: 'own_codes:OwnLabelSection', floor: 0.5}\n")
    stored = run_file.model_dump(mode="json")
    assert validate(Source(tmp_path, stored, marks=None)) == run_file


def test_its_keys_are_checked_like_all(tmp_path: Path) -> None:
    told = refusal(tmp_path, "label:\n  code: own_codes:OwnLabelSection\n  flor: 0.5\n")
    assert told.startswith("line 4: label.flor: unknown key; did you mean 'floor'? Known here: ")
    text = "production: {width: 3}\ntrain:\n  code: own_codes:OwnTrainSection\n"
    assert "production.width: unknown key" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("role", "code", "told"),
    [
        ("label", "no_such_module:Section", "cannot be imported (No module named"),
        ("label", "own_codes:NoSuchSection", "cannot be imported (module 'own_codes' has no"),
        ("label", "own_codes:OwnTrainSection", "is no LabelSection; derive the class from it"),
        ("train", "pathlib:Path", "is no TrainSection; derive the class from it"),
        ("explore", "own_codes:look", "is no ExploreSection; derive the class from it"),
    ],
)
def test_what_is_no_section_is_refused(tmp_path: Path, role: str, code: str, told: str) -> None:
    line = refusal(tmp_path, f"{role}:\n  code: {code}\n")
    assert line.startswith(f"line 3: {role}.code = '{code}': {told}")


def test_without_answers_of_its_own_the_level_is_told_and_the_cost_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_file = written(tmp_path, "label: {code: 'own_codes:OwnLabelSection'}\n")
    report = checked(run_file, monkeypatch)
    assert report.ok, report.errors
    assert "labels come from" in " ".join(sentences(report, "label"))
    assert report.estimate.most.core_hours is None
    assert "speed of a code is not known" in report.estimate.sentence


def test_it_may_answer_the_check_and_the_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "label: {code: 'own_codes:MeasuredLabelSection'}\n"
    report = checked(written(tmp_path, text), monkeypatch)
    assert sentences(report, "label.model") == ["nobody measured Au and Cu"]
    assert report.estimate.least.core_hours > report.estimate.least.labels


def test_a_trainer_whose_potentials_the_explorer_does_not_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_file = written(tmp_path, "train: {code: 'own_codes:OwnTrainSection', depth: 4}\n")
    monkeypatch.setattr(lammps, "program_version", lambda command, kind: "22 Jul 2025")
    *_, found = look_at_explorer(run_file, Inputs(run_file.read_structures()))
    assert (found.level, found.key) == ("error", "explore.code")
    assert "those of this run are of the kind own" in found.sentence


def test_a_trainer_of_its_own_trains_the_production(tmp_path: Path) -> None:
    text = "production: {n_models: 2, depth: 8, train_on_all: true}\n"
    run_file = written(tmp_path, f"train: {{code: 'own_codes:OwnTrainSection'}}\n{text}")
    section: Any = run_file.train.for_production(run_file.production)
    assert isinstance(section, OwnTrainSection)
    assert (section.depth, section.n_models, section.min_models) == (8, 2, 1)
    assert section.validation_fraction == 0.0
    assert run_file.other_production == []
    assert run_file.train.description == "own_codes:OwnTrainSection models"
