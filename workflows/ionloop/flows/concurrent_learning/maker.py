"""The loop as a Maker: initial data, turns, production training, validation, summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from jobflow import Flow, Job

from ionloop.flows.concurrent_learning.accounts import of_distillation, of_potential
from ionloop.flows.concurrent_learning.initial import initial_jobs
from ionloop.flows.concurrent_learning.settings import Loop
from ionloop.flows.concurrent_learning.turn import begin_loop
from ionloop.flows.concurrent_learning.validation import of_validation, validate
from ionloop.flows.distillation.maker import DistilMaker
from ionloop.flows.references import References
from ionloop.jobs.documents import collecting_job, stamp
from ionloop.jobs.placement import PART, PRODUCTION, Role, assign
from ionloop.jobs.roles import ExploreMaker, Reference, TrainMaker
from ionloop.schemas.distillation import DistillationDoc
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames, symbols_of
from ionloop.schemas.iteration import Action, IterationDoc
from ionloop.schemas.potential import EnsembleDoc
from ionloop.schemas.run import SummaryDoc
from ionloop.schemas.selection import ANY_DEVIATION

Typed = TypeVar("Typed", TrainMaker, ExploreMaker)


@dataclass(frozen=True)
class ValidationReferences(References):
    """What the steps of the validation gave, by reference."""

    exploration: Reference
    selection: Reference
    labels: Reference
    evaluation: Reference
    teacher: Reference = None


@dataclass
class ConcurrentLearningMaker(Loop):
    """Generates a potential by concurrent learning (Huang et al. 2021, figure 2).

    Parameters
    ----------
    label, train, explore, select
        The four roles. Without a type map, models have the elements of the start structures.
    production
        Trains the potential at the end, usually for more steps; if None, `train` does.
    stages
        Stages of the exploration, in order.
    trust
        Trust levels of stages that have none of their own.
    initial, convergence, limits, validation
        Settings of the loop itself.
    warm_production
        Start the production training from the last ensemble.
    distil
        Lets the last ensemble teach the potential; if None, it is trained on the labels alone. The
        roles, stages and fractions of the loop hold for it too, `production` trains its potential.
    seed
        Seed from which all others follow.

    Examples
    --------
    >>> from ionloop.codes.forcefield.settings import ForceFieldSettings
    >>> from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
    >>> copper = Frames(("Cu",), [[[0, 0, 0]]], [[[0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]]])
    >>> emt = ForceFieldSettings(model="ase.calculators.emt:EMT")
    >>> maker = ConcurrentLearningMaker(label=ForceFieldLabelMaker(settings=emt), seed=7)
    >>> flow = maker.make([copper])
    >>> [job.name for job in flow.jobs][2:]
    ['begin loop', 'production train', 'summarise run']
    """

    distil: DistilMaker | None = None

    def make(self, structures: Sequence[Frames]) -> Flow:
        """Build the flow from start structures; the output is a `SummaryDoc`.

        Raises
        ------
        InputError
            If the explorer cannot run the potentials, the validation asks for more frames than
            its MD gives, or an NVT stage has several pressures.
        """
        self.explore.check_kind(self.train.kind)
        for number, stage in enumerate(self.stages):
            if idle := stage.idle_pressures:
                raise InputError(f"stages[{number}].pressures: {idle}")
        if idle := self.validation.idle_pressures(self.stages[-1]):
            raise InputError(f"validation.pressures: {idle}")
        if lack := self.validation.lack(self.stages[-1], sum(map(len, structures))):
            raise InputError(f"validation.n_frames: {lack}")
        return self._complete(structures)._flow(structures)

    def _complete(self, structures: Sequence[Frames]) -> Self:
        """Return the Maker with type maps from the structures and `production` from `train`."""
        symbols = symbols_of(structures)
        loop = replace(
            self,
            train=_typed(self.train, symbols),
            explore=_typed(self.explore, symbols),
            production=_typed(self.production or self.train, symbols),
        )
        return replace(loop, distil=loop.distil and _distil(loop, loop.distil))

    def _flow(self, structures: Sequence[Frames]) -> Flow:
        assert self.production is not None
        relax = [self.label.relax(list(structures))] if self.initial.relax else []
        starts = relax[0].output if relax else list(structures)
        initial, dataset = initial_jobs(self, starts, sum(map(len, structures)))
        loop = begin_loop(self, starts, dataset)
        assign(loop, Role.DECIDE, "begin loop", bookkeeping=True)
        production = self._production(starts, loop.output)
        distilled = production.output if self.distil else None
        potential = production.output.potential if self.distil else production.output
        validation, judged = self._validation(starts, loop.output, potential)
        summary = summarise_run(loop.output, potential, judged, distilled)
        assign(summary, Role.DECIDE, "summarise run", bookkeeping=True)
        jobs = [*relax, *initial, loop, production, *validation, summary]
        return Flow(jobs, output=summary.output, name=self.name)

    def _production(self, structures: Reference, loop: Reference) -> Flow:
        """Build the training of the potential, or the distillation that ends with it."""
        if self.distil is not None:
            return self.distil.make(loop.ensemble, loop.labels, structures)
        assert self.production is not None
        previous = loop.ensemble if self.warm_production else None
        production = self.production.make(loop.labels, previous, self.seed)
        production.append_name("production ", prepend=True)
        production.update_metadata({PART: PRODUCTION}, dynamic=True)
        return production

    def _validation(
        self, structures: Reference, loop: Reference, potential: Reference
    ) -> tuple[list[Flow | Job], ValidationReferences | None]:
        """Build the validation: MD, frames at random, labels, errors of the potential."""
        if not self.validation.temperatures:
            return [], None
        assert self.production is not None
        seed = self.seed + 999_983  # far from the seeds of all turns
        stage = self.validation.stage(self.stages[-1])
        explore = self.explore.make(loop.ensemble, stage, structures, ANY_DEVIATION, seed)
        random = self.select.at_random()
        select = random.make(explore.output, loop.labels, self.validation.n_frames, seed)
        label = self.label.for_all().make(select.output.picked)
        compare = self.production.evaluate(potential, label.output)
        jobs: list[Flow | Job] = [explore, select, label, compare]
        if self.distil:
            jobs.append(self.train.evaluate(loop.ensemble, label.output))
        for part in jobs:
            part.append_name("validation ", prepend=True)
        return jobs, ValidationReferences(*(part.output for part in jobs))


@collecting_job(SummaryDoc)
def summarise_run(
    loop: Any,
    production: Any,
    judged: ValidationReferences | dict[str, Any] | None,
    distilled: Any = None,
) -> SummaryDoc:
    """Describe the whole run in one document.

    Parameters
    ----------
    loop
        Reference to the `IterationDoc` of the last turn.
    production
        Reference to the `EnsembleDoc` of the potential.
    judged
        What the validation gave, if there was one; a dictionary in jobs of version 0.1.
    distilled
        Reference to the `DistillationDoc`, if there was one.
    """
    last: IterationDoc = loop.value
    potential: EnsembleDoc = production.value
    found = ValidationReferences.of(judged).values if judged else {}
    validation = validate(**found) if found else None
    unjudged = of_validation(validation, found["selection"].max_labels) if found else []
    distillation: DistillationDoc | None = distilled.value if distilled else None
    spent = sum(part.core_seconds for part in (potential, validation, distillation) if part)
    return SummaryDoc(
        **stamp(),
        converged=last.decision.action is Action.CONVERGED,
        reason=last.decision.reason,
        n_turns=last.progress.index + 1,
        n_labels=last.progress.n_labels + (validation.n_requested if validation else 0),
        n_accepted=last.n_training_frames + (validation.n_accepted if validation else 0),
        accurate_fractions=[counts.accurate_fraction for counts in last.progress.history],
        counts=last.progress.history,
        unfinished=last.unfinished,
        core_hours=last.progress.core_hours + spent / 3600,
        potential=production.reference,
        train_errors=potential.train_errors,
        validation_errors=potential.validation_errors,
        validation=validation,
        distillation=distillation and distillation.model_copy(update={"potential": None}),
        notes=[
            *last.dataset.notes,
            *last.progress.notes,
            *of_potential(potential, last.dataset),
            *of_distillation(distillation),
            *unjudged,
        ],
    )


def _typed(maker: Typed, symbols: list[str]) -> Typed:
    """Return a Maker with a type map: its own, or else these symbols."""
    return maker if maker.type_map else replace(maker, type_map=symbols)


def _distil(loop: ConcurrentLearningMaker, distil: DistilMaker) -> DistilMaker:
    """Return the Maker of a distillation with what the loop decides."""
    symbols = loop.train.type_map
    return replace(
        distil,
        train=_typed(distil.train, symbols),
        explore=_typed(distil.explore, symbols),
        production=loop.production,
        teacher_explore=loop.explore,
        select=loop.select,
        stages=loop.stages,
        validation_fraction=loop.train.validation_fraction,
        warm_start=loop.warm_production,
        seed=loop.seed + 500_009,  # far from the seeds of all turns
    )
