"""Distillation as a Maker: an ensemble teaches students of another kind, and nothing is bought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jobflow import Flow, Job, Response

from ionloop.flows.distillation.rounds import LESSON, Rounds, build_round, labeller
from ionloop.flows.references import references
from ionloop.jobs.documents import collecting_job
from ionloop.jobs.label.teacher import describe_teacher
from ionloop.jobs.placement import PART, Role, assign
from ionloop.jobs.roles import Reference
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import Stage
from ionloop.schemas.frames import Frames, symbols_of
from ionloop.schemas.selection import ANY_DEVIATION


@dataclass
class DistilMaker(Rounds):
    """Trains students on what an ensemble, the teacher, says of its and their molecular dynamics.

    The teacher explores and labels. Then, in every round, students are trained, explore, and are
    compared with the teacher on random frames of their own, which it labels. When their error is
    within a factor of the teacher's error on labels that were held back from it, or after the last
    round, the potential is trained on everything.

    Parameters
    ----------
    train
        Trains the students of a round, two or more; without a type map, they have the elements of
        the start structures.
    explore
        Explores with the students.
    production
        Trains the potential at the end; if None, `train` does.
    teacher_explore
        Explores with the teacher; if None, `explore` does.
    select
        Its limits and tolerance hold for the frames, which are picked at random.
    stages
        Stages of which the conditions are made where `settings.stage` is None.
    settings
        How many frames and rounds, and when it ends.
    validation_fraction
        Fraction of the labels that was held back from the teacher.
    warm_start
        Start the students, and the potential, from those of the round before.
    device, cores
        Device of torch and cores of a job in which the teacher labels.
    seed
        Seed from which all others follow.

    Examples
    --------
    >>> from ionloop.jobs.train.deepmd import DeepmdTrainMaker
    >>> students = DeepmdTrainMaker(n_models=2, type_map=["Cu"])
    >>> maker = DistilMaker(train=students, stages=[Stage(temperatures=[300, 600], steps=5000)])
    >>> flow = maker.make(teacher=None, labels=[], structures=[])
    >>> [job.name for job in flow.jobs]
    ['describe the teacher', 'begin distillation']
    """

    stages: list[Stage] = field(default_factory=list)
    validation_fraction: float = 0.05
    name: str = "distil"

    def make(self, teacher: Reference, labels: Reference, structures: Reference) -> Flow:
        """Build the flow; the output is a `DistillationDoc`.

        Parameters
        ----------
        teacher
            Reference to the `EnsembleDoc` of two models or more that teaches, the output of a job.
        labels
            List of references to the `Labels` that it was trained on, or a reference to the list.
        structures
            Start structures of the molecular dynamics, or a reference to them.

        Raises
        ------
        InputError
            If the explorer cannot run the students, they are not of one kind, or the trainers
            cannot draw labels as often as the settings say.
        """
        maker = self.complete(structures if isinstance(structures, list | tuple) else [])
        maker.explore.check_kind(maker.train.kind)
        describe = describe_teacher(teacher, labels, maker.validation_fraction)
        assign(describe, Role.EVALUATE, "describe the teacher", maker.cores)
        begin = begin_distillation(maker, describe.output, labels, structures)
        assign(begin, Role.DECIDE, "begin distillation", bookkeeping=True)
        return Flow([describe, begin], output=begin.output, name=self.name)

    def complete(self, structures: Sequence[Frames]) -> DistilMaker:
        """Return the Maker with `production`, weights, conditions and type maps filled in.

        Parameters
        ----------
        structures
            Start structures, whose elements are the type map where there is none.

        Raises
        ------
        InputError
            If the students are not of one kind, or cannot draw labels so often.
        """
        weight, production = self.settings.label_weight, self.production or self.train
        if production.kind != self.train.kind:
            raise InputError(
                f"production: {type(production).__name__} trains potentials of the kind "
                f"{production.kind}, and the students before it are of the kind {self.train.kind}"
            )
        types = self.train.type_map or symbols_of(structures)
        students, last = (
            replace(each.weighing(weight), allow_mixed=True, type_map=each.type_map or types)
            for each in (self.train, production)
        )
        stage = self.settings.stage_of(self.stages)
        return replace(
            self,
            train=students,
            production=last,
            explore=replace(self.explore, type_map=self.explore.type_map or types),
            settings=self.settings.model_copy(update={"stage": stage}),
        )


@collecting_job()
def begin_distillation(
    maker: DistilMaker, teacher: Any, labels: Any, structures: Any
) -> Response[Any]:
    """Let the teacher explore and label, and begin the first round.

    Parameters
    ----------
    maker
        Roles and settings.
    teacher
        Reference to its description.
    labels
        References to the `Labels` that it was trained on, or a reference to the list of them.
    structures
        Start structures, or a reference to them.
    """
    dataset = references(labels)
    if not isinstance(labels, list):
        dataset = [labels.reference[number] for number in range(len(labels.value))]
    starts, stage = references(structures), maker.settings.own_stage_of(maker.stages)
    label = labeller(maker, teacher.value)
    explorer = maker.teacher_explore or maker.explore
    explorer.check_kind(teacher.value.kind)
    explore = explorer.make(label.ensemble, stage, starts, ANY_DEVIATION, maker.seed)
    select = maker.select.at_random().make(
        explore.output, dataset, maker.settings.n_own, maker.seed
    )
    teach = label.make(select.output.picked)
    teach.update_metadata({PART: LESSON}, dynamic=True)
    own: list[Flow | Job] = [explore, select, teach]
    for step in own:
        step.append_name("teacher: ", prepend=True)
    lesson = {"own_exploration": explore.output, "own_labels": teach.output}
    first = build_round(maker, teacher, starts, [*dataset, teach.output], lesson, [])
    return Response(replace=Flow([*own, first], output=first.output, name="distillation"))
