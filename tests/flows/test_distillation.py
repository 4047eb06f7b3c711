"""An ensemble teaches others: what they learn, when it ends, and that nothing is bought."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from jobflow import JobStore, run_locally

from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.codes.teacher import TeacherSettings
from ionloop.flows.concurrent_learning.maker import ConcurrentLearningMaker
from ionloop.flows.concurrent_learning.settings import InitialData
from ionloop.flows.concurrent_learning.validation import Validation
from ionloop.flows.distillation.maker import DistilMaker
from ionloop.flows.distillation.settings import Distillation, judge
from ionloop.formats.reading import load_structures
from ionloop.jobs.explore.lammps import LammpsExploreMaker
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.jobs.train.split import split
from ionloop.schemas.distillation import DistillationDoc, RoundDoc
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import Stage
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import TEACHER, Labels, LevelOfTheory
from ionloop.schemas.potential import EnsembleDoc, ForceErrors, StoredFile, Teacher
from ionloop.schemas.run import SummaryDoc
from ionloop.schemas.selection import TrustWindow
from ionloop.stores.connect import collection

TOY = Path(__file__).parents[1] / "toy"
FEW = {"n_own": 20, "n_frames": 10, "label_weight": 1.0, "max_rounds": 2}
pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")


@pytest.fixture
def start(toy: Path) -> list[Frames]:
    return load_structures([TOY / "AuCu.vasp"])


def loop(**settings: Any) -> ConcurrentLearningMaker:
    springs = import_module("springs")
    emt = ForceFieldSettings(model="ase.calculators.emt:EMT")
    return ConcurrentLearningMaker(
        label=ForceFieldLabelMaker(settings=emt),
        train=springs.SpringsMaker(validation_fraction=0.3),
        explore=springs.SpringsExploreMaker(),
        production=springs.SpringsMaker(n_models=2, validation_fraction=0.3),
        stages=[Stage(temperatures=[300, 600], steps=200, max_turns=1)],
        trust=TrustWindow(low=0.05, high=2.0),
        initial=InitialData(n_perturbed=16),
        validation=Validation(temperatures=[450], n_frames=4, steps=50, spacing=20),
        distil=DistilMaker(
            train=springs.SpringsMaker(n_models=2, validation_fraction=0.3),
            explore=springs.SpringsExploreMaker(),
            settings=Distillation(**FEW | settings),
        ),
    )


def ended(maker: ConcurrentLearningMaker, start: Any, store: JobStore, folder: Path) -> SummaryDoc:
    flow = maker.make(start)
    run_locally(flow, store=store, root_dir=folder, raise_immediately=True, log=False)
    summary = flow.output.resolve(store)
    assert isinstance(summary, SummaryDoc)
    return summary


def counted(store: JobStore) -> Counter[bool]:
    """Count the labels of the store, those of a teacher (True) and the others."""
    found = collection(store, "labels").query(properties=["level_words"])
    return Counter(each["level_words"].startswith("teacher (") for each in found)


def test_students_learn_from_their_teacher_and_nothing_is_bought(
    start: list[Frames], store: JobStore, tmp_path: Path
) -> None:
    summary = ended(loop(), start, store, tmp_path)
    distilled, potential = summary.distillation, summary.potential
    assert distilled.reached
    (only,) = distilled.rounds
    assert (
        only.force_error
        <= distilled.target
        == pytest.approx(distilled.teacher.validation_errors.force_mev_per_angstrom)
    )
    assert (only.n_requested, only.n_accepted) == (10, 10)
    # The labels that were paid for are those of the loop and its validation, and no more.
    assert counted(store) == {True: 20 + 10, False: summary.n_labels}
    assert only.n_training_frames == summary.n_accepted - 4 + 20
    assert distilled.n_taught == 30
    assert summary.notes == [note for note in summary.notes if "distillation" not in note]

    teacher = potential.teacher
    assert teacher == distilled.teacher
    assert (teacher.kind, len(teacher.models)) == ("springs:calculator", 3)
    assert len(teacher.labels) == summary.n_accepted - 4
    assert teacher.level == loop().label.level.hash
    assert [member.kind for member in potential.members] == ["springs:calculator"] * 2
    # Judged by DFT, on frames that none of them has seen, and the teacher beside it.
    assert summary.validation.errors.n_frames == summary.validation.teacher.n_frames == 4
    assert all(e.n_frames < 0.7 * len(teacher.labels) for e in potential.validation_errors)
    assert potential.train_errors[0].n_frames > 30


def test_students_that_stay_behind_are_delivered_with_a_note(
    start: list[Frames], store: JobStore, tmp_path: Path
) -> None:
    summary = ended(loop(factor=1e-3), start, store, tmp_path)
    assert not summary.distillation.reached
    assert [each.number for each in summary.distillation.rounds] == [0, 1]
    assert summary.distillation.rounds[1].n_training_frames == 10 + (
        summary.distillation.rounds[0].n_training_frames
    )
    (note,) = [each for each in summary.notes if each.startswith("distillation: ")]
    assert "did not come near enough: the students' force error against the teacher is" in note
    assert "allowed (0.001 times the teacher's own on" in note
    assert len(summary.potential.members) == 2
    assert counted(store) == {True: 20 + 2 * 10, False: summary.n_labels}


def test_any_stored_ensemble_teaches_from_python(
    start: list[Frames], store: JobStore, tmp_path: Path
) -> None:
    springs = import_module("springs")
    emt = ForceFieldLabelMaker(settings=ForceFieldSettings(model="ase.calculators.emt:EMT"))
    perturbed = import_module("ionloop.geometry.perturb").perturb(start[0], 16, 0.1, 0.02, 1)
    label = emt.make([perturbed])
    train = springs.SpringsMaker(type_map=["Au", "Cu"], validation_fraction=0.3)
    teach = train.make([label.output], seed=3)
    distil = DistilMaker(
        train=springs.SpringsMaker(n_models=2),
        explore=springs.SpringsExploreMaker(),
        stages=[Stage(temperatures=[300], steps=300)],
        validation_fraction=0.3,
        settings=Distillation(**FEW),
    ).make(teach.output, [label.output], start)
    flow = import_module("jobflow").Flow([label, teach, distil])
    run_locally(flow, store=store, root_dir=tmp_path, raise_immediately=True, log=False)
    found = distil.output.resolve(store)
    assert isinstance(found, DistillationDoc)
    assert isinstance(found.potential, EnsembleDoc)
    assert found.potential.teacher == found.teacher
    assert found.teacher.job == teach.output.uuid
    assert counted(store) == {True: 30, False: 16}


def test_what_does_not_fit_is_refused_before_anything_runs(start: list[Frames]) -> None:
    springs = import_module("springs")
    students = springs.SpringsMaker(n_models=2)
    with pytest.raises(InputError, match=r"draws all frames alike.*set label_weight to 1"):
        loop(label_weight=5).make(start)
    free = Distillation(label_weight=1)
    with pytest.raises(InputError, match="LammpsExploreMaker runs potentials of the kind deepmd"):
        DistilMaker(
            train=students, explore=LammpsExploreMaker(), settings=free, stages=loop().stages
        ).make(None, [], start)
    with pytest.raises(InputError, match=r"give stages, or settings\.stage"):
        DistilMaker(train=students, settings=free).make(None, [], start)
    other = DistilMaker(train=DeepmdTrainMaker(), production=students, settings=free)
    with pytest.raises(InputError, match="and the students before it are of the kind deepmd"):
        other.make(None, [], start)


def errors(force: float, n_frames: int = 100) -> ForceErrors:
    return ForceErrors(
        n_frames=n_frames,
        energy_mev_per_atom=1,
        force_mev_per_angstrom=force,
        force_rms_mev_per_angstrom=800,
    )


def rounds(*found: tuple[float, float] | None) -> list[RoundDoc]:
    return [
        RoundDoc(
            number=number,
            n_requested=100,
            n_accepted=100,
            n_training_frames=1000,
            errors=each and errors(each[0]),
            train_errors=each and errors(each[1]),
        )
        for number, each in enumerate(found)
    ]


@pytest.mark.parametrize(
    ("found", "own", "ends", "reached", "words"),
    [
        ([(100, 90)], 100, True, True, "(1 times the teacher's own on 10 held-back"),
        (
            [(110, 90)],
            100,
            False,
            False,
            "is 110 meV/Å, 1.10 times the 100 meV/Å allowed",
        ),
        ([(110, 105)] * 3, 100, True, False, "so training limits it"),
        ([(150, 50)] * 3, 100, True, False, "so geometries limit it"),
        ([None], 100, False, False, "no sound frame"),
        ([(10, 10)], None, False, False, "no label was held back"),
        ([(10, 10)] * 3, None, True, False, "all 3 rounds were done"),
    ],
)
def test_it_ends_when_the_students_are_as_near_to_the_teacher_as_the_teacher_to_the_labels(
    found: Any, own: Any, ends: bool, reached: bool, words: str
) -> None:
    teacher = Teacher(
        kind="x", models=["a"], level="b", labels=[], validation_errors=own and errors(own, 10)
    )
    verdict = judge(rounds(*found), teacher, Distillation())
    assert (verdict.ends, verdict.reached) == (ends, reached)
    assert words in verdict.reason


def test_the_conditions_are_those_of_the_last_stage_at_all_temperatures() -> None:
    stages = [
        Stage(temperatures=[300], steps=100, trust=TrustWindow(low=0.1, high=0.2)),
        Stage(temperatures=[900, 600], steps=500, ensemble="npt-iso", pressures=[1.0]),
    ]
    stage = Distillation().stage_of(stages)
    assert (stage.temperatures, stage.steps, stage.ensemble) == ([300, 600, 900], 500, "npt-iso")
    given = Distillation(stage=stages[0])
    assert given.stage_of(stages) == given.own_stage_of(stages) == stages[0]
    shorter = Distillation(stage=stages[0], own_stage=stages[1])
    assert (shorter.stage_of(stages), shorter.own_stage_of(stages)) == (stages[0], stages[1])


def test_of_what_a_teacher_labelled_nothing_is_held_back(gold_copper: Frames) -> None:
    def labels(code: str, frames: Frames) -> Labels:
        level = LevelOfTheory(code=code, settings={})
        return Labels(level=level, n_requested=len(frames), n_accepted=len(frames), frames=[frames])

    frames = ForceFieldSettings(model="ase.calculators.emt:EMT")
    labelled = [
        each.frame for each in map(ForceFieldLabelMaker(settings=frames).label, gold_copper[:8])
    ]
    bought = [frame.of_group("a") for frame in labelled[:4]]
    taught = [frame.of_group("b") for frame in labelled[4:7]]
    same = labelled[7].of_group("a")
    dataset = [labels("dft", bought[0])] + [labels(TEACHER, each) for each in (*taught, same)]
    for fraction, n_training, n_held in ((0.0, 5, 0), (0.999999, 3, 1)):
        training, held = split(dataset, fraction, allow_mixed=True)
        assert (sum(map(len, training)), sum(map(len, held))) == (n_training, n_held)


def test_a_model_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    file = StoredFile("model.json", b"{}")
    settings = TeacherSettings(kind="springs:calculator", models=[file.sha256])
    with pytest.raises(InputError, match="has no folder: write it to one, under its sha256"):
        settings._calculators()
    placed = settings.with_models([file], tmp_path)
    (tmp_path / f"{file.sha256}.json").write_text("{ }")
    with pytest.raises(InputError, match="is not the model that its name says"):
        placed._calculators()
    assert placed.level == settings.level
    other = TeacherSettings(kind="springs:calculator", models=["0a"])
    assert other.level.hash != settings.level.hash
