"""One round of a distillation: train students, explore, pick at random, let the teacher label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobflow import Flow, Job, Response

from ionloop.flows.distillation.settings import Distillation, judge, target
from ionloop.flows.references import References, references
from ionloop.jobs.context import run_store
from ionloop.jobs.documents import collecting_job, stamp
from ionloop.jobs.explore.lammps import LammpsExploreMaker
from ionloop.jobs.label.teacher import TeacherLabelMaker
from ionloop.jobs.placement import PART, PRODUCTION, Role, assign
from ionloop.jobs.roles import ExploreMaker, FrozenMaker, Reference, SelectMaker, TrainMaker
from ionloop.jobs.select import WindowSelectMaker
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.schemas.distillation import DistillationDoc, RoundDoc
from ionloop.schemas.exploration import ExplorationDoc
from ionloop.schemas.label import Labels
from ionloop.schemas.potential import EnsembleDoc, EvaluationDoc, ForceErrors, Teacher
from ionloop.schemas.selection import ANY_DEVIATION

LESSON = "lesson"
"""Part of a run that has no tolerances in the run file: a teacher's labels."""

STUDENTS = "production.teacher.explore"
"""Part of the run file of the students' MD, if they have an explorer of their own."""

ROUND = "round"  # in a job's metadata: the round of the distillation, from 0


@dataclass
class Rounds(FrozenMaker):
    """The roles and settings that every round needs; see `DistilMaker`."""

    train: TrainMaker = field(default_factory=lambda: DeepmdTrainMaker(n_models=2))
    explore: ExploreMaker = field(default_factory=LammpsExploreMaker)
    production: TrainMaker | None = None
    teacher_explore: ExploreMaker | None = None
    select: SelectMaker = field(default_factory=WindowSelectMaker)
    settings: Distillation = field(default_factory=Distillation)
    warm_start: bool = True
    device: str = "cpu"
    cores: int = 1
    seed: int = 1
    name: str = "rounds"


@dataclass(frozen=True)
class RoundReferences(References):
    """What the steps of a round gave, by reference; the first has the teacher's own too."""

    ensemble: Reference
    exploration: Reference
    labels: Reference
    evaluation: Reference
    own_exploration: Reference = None
    own_labels: Reference = None


def labeller(maker: Rounds, teacher: Teacher) -> TeacherLabelMaker:
    """Return the labeller of a teacher.

    Parameters
    ----------
    maker
        Device and cores.
    teacher
        The teacher.
    """
    return TeacherLabelMaker.of(teacher, maker.device, maker.cores)


def build_round(
    maker: Rounds,
    teacher: Any,
    structures: Reference,
    dataset: list[Reference],
    before: Mapping[str, Reference],
    rounds: Sequence[RoundDoc],
) -> Flow:
    """Build one round: train, explore, select, label, compare, conclude.

    Parameters
    ----------
    maker
        Roles and settings.
    teacher
        The teacher's description, with the reference to it.
    structures
        Start structures, or a reference to them.
    dataset
        References to all `Labels` so far, the teacher's included.
    before
        `previous`, the ensemble of the round before; in the first round, what the teacher's own
        exploration and labels gave, which are counted with it.
    rounds
        The rounds so far.
    """
    number, stage = len(rounds), maker.settings.stage
    seed = maker.seed + 1000 * (number + 1)
    assert stage is not None
    previous = before.get("previous") if maker.warm_start else None
    train = maker.train.make(dataset, previous, seed)
    train.update_metadata({PART: PRODUCTION}, dynamic=True)
    explore = maker.explore.make(train.output, stage, structures, ANY_DEVIATION, seed)
    if maker.teacher_explore not in (None, maker.explore):
        explore.update_metadata({PART: STUDENTS}, dynamic=True)
    select = maker.select.at_random().make(explore.output, dataset, maker.settings.n_frames, seed)
    label = labeller(maker, teacher.value).make(select.output.picked)
    label.update_metadata({PART: LESSON}, dynamic=True)
    compare = maker.train.evaluate(train.output, label.output)
    own = {name: given for name, given in before.items() if name != "previous"}
    results = RoundReferences(train.output, explore.output, label.output, compare.output, **own)
    conclude = conclude_round(
        maker, references(teacher), structures, dataset, results, list(rounds)
    )
    steps: list[Flow | Job] = [train, explore, select, label, compare]
    for step in steps:
        step.append_name(f"round {number}: ", prepend=True)
        step.update_metadata({ROUND: number}, dynamic=True)
    assign(conclude, Role.DECIDE, f"conclude round {number}", bookkeeping=True)
    conclude.update_metadata({ROUND: number}, dynamic=False)
    return Flow([*steps, conclude], output=conclude.output, name=f"round {number}")


@collecting_job()
def conclude_round(
    maker: Rounds,
    teacher: Any,
    structures: Any,
    dataset: list[Any],
    results: RoundReferences,
    rounds: list[RoundDoc],
) -> Response[Any]:
    """Describe the round, and begin the next one or the training of the potential.

    Parameters
    ----------
    maker
        Roles and settings.
    teacher
        Reference to the teacher's description.
    structures
        Start structures, or a reference to them.
    dataset
        References to all `Labels` before those of this round.
    results
        What the steps of the round gave.
    rounds
        The rounds before.
    """
    labels: list[Labels] = [part.value for part in dataset]
    document = round_document(len(rounds), labels, **results.values)
    done, given = [*rounds, document], results.without_values()
    known = [*references(dataset), given.labels]
    if judge(done, teacher.value, maker.settings).ends:
        following = _deliver(maker, teacher, known, given.ensemble, done)
    else:
        before = {"previous": given.ensemble}
        starts = references(structures)
        following = build_round(maker, teacher, starts, known, before, done)
    return Response(output=document, replace=following)


def _deliver(
    maker: Rounds,
    teacher: Any,
    dataset: list[Reference],
    students: Reference,
    rounds: list[RoundDoc],
) -> Flow:
    """Build the training of the potential on everything."""
    production = maker.production or maker.train
    previous = students if maker.warm_start else None
    train = production.make(dataset, previous, maker.seed)
    train.append_name("production ", prepend=True)
    train.update_metadata({PART: PRODUCTION, ROUND: len(rounds)}, dynamic=True)
    name = name_teacher(train.output, references(teacher))
    assign(name, Role.TRAIN, "name the teacher", bookkeeping=True)
    end = end_distillation(references(teacher), name.output, rounds, maker.settings)
    assign(end, Role.DECIDE, "end distillation", bookkeeping=True)
    return Flow([train, name, end], output=end.output, name="deliver")


@collecting_job(EnsembleDoc)
def name_teacher(ensemble: Any, teacher: Any) -> EnsembleDoc:
    """Return the ensemble of the students with the teacher's name in it.

    Parameters
    ----------
    ensemble
        Reference to the `EnsembleDoc` of the students.
    teacher
        Reference to the teacher's description.
    """
    found: EnsembleDoc = ensemble.value
    # A value comes with its references resolved, and the models are not to be stored again.
    criteria = {"uuid": ensemble.reference.uuid}
    stored: Any = run_store().query_one(criteria, properties=["output.members"], sort={"index": -1})
    members = stored["output"]["members"]
    return found.model_copy(update={**stamp(), "members": members, "teacher": teacher.value})


@collecting_job(DistillationDoc)
def end_distillation(
    teacher: Any, potential: Any, rounds: list[RoundDoc], settings: Distillation
) -> DistillationDoc:
    """Describe a distillation.

    Parameters
    ----------
    teacher
        Reference to the teacher's description.
    potential
        Reference to the `EnsembleDoc` that is delivered.
    rounds
        All rounds.
    settings
        When it was to end.
    """
    verdict = judge(rounds, teacher.value, settings)
    return DistillationDoc(
        **stamp(settings),
        teacher=teacher.value,
        rounds=rounds,
        target=target(teacher.value, settings),
        reached=verdict.reached,
        reason=verdict.reason,
        potential=potential.reference,
        core_seconds=sum(each.core_seconds for each in rounds),
    )


def round_document(
    number: int,
    dataset: Sequence[Labels],
    ensemble: EnsembleDoc,
    exploration: ExplorationDoc,
    labels: Labels,
    evaluation: EvaluationDoc,
    **own: ExplorationDoc | Labels,
) -> RoundDoc:
    """Describe a round.

    Parameters
    ----------
    number
        Of the round, from 0.
    dataset
        All labels before those of this round.
    ensemble, exploration, labels, evaluation
        What its steps gave.
    **own
        What the teacher's own exploration and labels gave, which are counted with the first round.
    """
    parts = [ensemble, exploration, labels, *own.values()]
    return RoundDoc(
        **stamp(),
        number=number,
        n_requested=labels.n_requested,
        n_accepted=labels.n_accepted,
        rejected=labels.rejected_by_reason,
        n_training_frames=sum(part.n_accepted for part in dataset),
        n_trajectories=len(exploration.trajectories),
        n_finished=exploration.n_finished,
        errors=_worst(evaluation.model_errors),
        train_errors=_worst(ensemble.train_errors),
        core_seconds=sum(part.core_seconds for part in parts),
    )


def _worst(errors: Sequence[ForceErrors]) -> ForceErrors | None:
    return max(errors, key=lambda each: each.force_mev_per_angstrom, default=None)
