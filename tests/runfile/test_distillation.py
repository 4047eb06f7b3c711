"""A production of another code, and one that is taught, in the run file and its check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ionloop.codes import deepmd, lammps
from ionloop.preflight.check import Report, check
from ionloop.runfile.errors import RunFileError
from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import load
from ionloop.runfile.sections.deepmd import DeepmdSection
from ionloop.runfile.sections.lammps import LammpsSection

TOY = Path(__file__).parents[1] / "toy"
SPRINGS = """
label: {model: "ase.calculators.emt:EMT"}
train: {code: "springs:SpringsSection"}
explore: {code: "springs:SpringsExploreSection"}
stages: [{temperatures: [300, 600], steps: 2000}]
"""


@pytest.fixture(autouse=True)
def programs(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepmd, "program_version", lambda command: "3.2.0")
    monkeypatch.setattr(deepmd, "check_backend", lambda backend: None)
    monkeypatch.setattr(lammps, "program_version", lambda command, kind: "22 Jul 2025")


def written(folder: Path, text: str, head: str = SPRINGS) -> RunFile:
    (folder / "run.yaml").write_text(f"structures: [{TOY / 'AuCu.vasp'}]\n{head}{text}")
    return load(folder / "run.yaml")


def refusal(folder: Path, text: str, head: str = SPRINGS) -> str:
    with pytest.raises(RunFileError) as caught:
        written(folder, text, head)
    return str(caught.value).partition(": ")[2]


def found(report: Report, level: str) -> list[tuple[str, str]]:
    return [(each.key, each.sentence) for each in report.findings if each.level == level]


def test_a_production_of_another_code_is_trained_from_scratch_on_the_same_labels(
    tmp_path: Path,
) -> None:
    run_file = written(tmp_path, "production: {code: deepmd, steps: 4000, neurons: [10, 20]}\n")
    section: Any = run_file.production_section
    assert isinstance(section, DeepmdSection)
    assert (section.steps, section.neurons, section.n_models) == (4000, [10, 20], 1)
    assert section.validation_fraction == run_file.train.validation_fraction == 0.3
    maker = run_file.maker()
    assert (maker.production.kind, maker.distil, maker.warm_production) == ("deepmd", None, False)
    report = check(run_file)
    (sentence,) = [each for each in report.plan if "Train the potential" in each]
    assert "1 model for 4000 steps, from scratch, since its network is not" in sentence
    assert ("production.command", "DeePMD-kit 3.2.0 trains, backend tensorflow") in found(
        report, "ok"
    )
    assert not [key for key, _ in found(report, "warning") if key == "production"]
    assert RunFile.model_validate(run_file.model_dump(mode="json")) == run_file


def test_a_teacher_is_the_last_ensemble_and_its_students_are_the_production(
    tmp_path: Path,
) -> None:
    run_file = written(
        tmp_path,
        "production: {code: deepmd, steps: 4000, n_models: 3, teacher: {n_own: 300, "
        "n_frames: 200, explore: {code: lammps, command: 'srun lmp'}}}\n",
    )
    maker = run_file.maker()
    distil: Any = maker.distil
    assert (distil.settings.n_own, distil.settings.label_weight) == (300, 5.0)
    production: Any = maker.production
    assert (distil.train.n_models, distil.train.min_models, production.n_models) == (2, 2, 3)
    assert distil.explore.settings.command == "srun lmp"
    complete: Any = maker._complete(run_file.read_structures()).distil
    assert complete.complete([]).train.label_weight == 5.0
    assert complete.complete([]).production.allow_mixed
    assert complete.teacher_explore == maker.explore
    assert complete.validation_fraction == 0.3
    assert RunFile.model_validate(run_file.model_dump(mode="json")) == run_file


def test_students_of_another_code_explore_with_lammps_where_it_runs_them(tmp_path: Path) -> None:
    taught = "production: {code: deepmd, teacher: {}}\n"
    other = written(tmp_path, taught)
    assert other.student_explorer == LammpsSection()
    head = "label: {model: 'ase.calculators.emt:EMT'}\nexplore: {batch_size: 3}\n"
    ase = SPRINGS.replace('"springs:SpringsExploreSection"', "ase")
    assert written(tmp_path, taught, ase).student_explorer == LammpsSection()
    same = written(tmp_path, taught.replace("code: deepmd, ", ""), head)
    assert same.student_explorer is same.explore
    distil: Any = same.maker().distil
    assert distil.explore.batch_size == 3


def test_the_check_describes_the_distillation_and_its_cost(tmp_path: Path) -> None:
    report = check(written(tmp_path, "production: {code: deepmd, teacher: {n_frames: 9000}}\n"))
    (plan,) = [each for each in report.plan if "Distil" in each]
    assert "labels 1000 frames of its own" in plan
    assert "9000 of that of 2 students (lammps) in each of at most 3 rounds" in plan
    assert "1 times its own on held-back labels; no label is bought" in plan
    (train,) = [each for each in report.plan if "Train the potential" in each]
    assert "from the students of the last round, on all that the teacher labelled" in train
    assert "and, 5 times as often, on the labels" in train
    low, high = report.estimate.least, report.estimate.most
    assert (low.taught, high.taught) == (10_000, 28_000)
    plain = check(written(tmp_path, "production: {code: deepmd}\n")).estimate
    assert (low.labels, high.labels) == (plain.least.labels, plain.most.labels)
    assert (low.trainings - plain.least.trainings, high.trainings - plain.most.trainings) == (2, 6)
    assert "10,000 to 28,000 frames labelled by the teacher" in report.estimate.sentence
    assert "labelled" not in plain.sentence
    (few,) = [said for key, said in found(report, "warning") if key.endswith("teacher.n_frames")]
    assert "9000 frames are asked for, and the molecular dynamics gives" in few


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "production: {code: deepmd, teacher: {frames: 3}}\n",
            "production.teacher.frames: unknown key; did you mean 'n_frames'?",
        ),
        (
            "production: {code: deepmd, teacher: {explore: {comand: lmp}}}\n",
            "production.teacher.explore.comand: unknown key; did you mean 'command'?",
        ),
        ("production: {code: deepnd}\n", "production.code = 'deepnd': unknown code; known: deepmd"),
        (
            "production: {code: deepmd, step: 3}\n",
            "production.step: unknown key; did you mean 'steps'?",
        ),
        (
            "production: {teacher: {}}\n",
            "production.teacher: SpringsMaker draws all frames alike: it cannot draw labels 5",
        ),
        (
            "production: {code: deepmd, teacher: {n_models: 1}}\n",
            "production.teacher.n_models = 1: expected greater than or equal to 2",
        ),
    ],
)
def test_what_is_wrong_is_told_by_key(tmp_path: Path, text: str, told: str) -> None:
    assert told in refusal(tmp_path, text)


def test_a_teacher_that_nothing_judges_is_refused(tmp_path: Path) -> None:
    head = SPRINGS.replace('SpringsSection"', 'SpringsSection", validation_fraction: 0', 1)
    told = refusal(tmp_path, "production: {code: deepmd, teacher: {}}\n", head)
    assert "production.teacher: the teacher is judged by labels that are held back" in told
    assert "set it above 0" in told


def test_students_that_no_explorer_runs_are_an_error_of_the_check(tmp_path: Path) -> None:
    text = (
        "production: {code: deepmd, teacher: {explore: {code: 'springs:SpringsExploreSection'}}}\n"
    )
    errors = dict(found(check(written(tmp_path, text)), "error"))
    assert "runs potentials of the kind springs:calculator" in errors["production.teacher.explore"]


def test_few_labels_held_back_are_a_warning(tmp_path: Path) -> None:
    text = "initial: {n_perturbed: 10}\nproduction: {code: deepmd, teacher: {}}\n"
    warnings = dict(found(check(written(tmp_path, text)), "warning"))
    assert "first 10 labels about 3 are held back" in warnings["train.validation_fraction"]


def test_paths_of_bases_count_from_the_folder_of_the_run_file(tmp_path: Path) -> None:
    own, other = tmp_path / "own.pth", tmp_path / "other.pt"
    own.touch()
    other.touch()
    head = SPRINGS.replace('train: {code: "springs:SpringsSection"}\n', "")
    text = "train: {code: sevennet, base: own.pth}\nproduction: {code: chgnet, base: other.pt}\n"
    assert bases(written(tmp_path, text, head)) == [str(own), str(other)]
    text = "train: {code: sevennet}\nproduction: {base: own.pth}\n"
    assert bases(written(tmp_path, text, head)) == ["7net-0", str(own)]


def bases(file: RunFile) -> list[Any]:
    sections: list[Any] = [file.train, file.production_section]
    return [section.base for section in sections]
