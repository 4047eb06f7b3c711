"""The loop: train, explore, select, label, decide; then production and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from jobflow import Flow, Job, Maker, OutputReference, Response
from jobflow.core.reference import ResolvedReference

from ionloop.flows.concurrent_learning.accounts import (
    TurnResults,
    after_turn,
    iteration_document,
    of_potential,
)
from ionloop.flows.concurrent_learning.decision import (
    Convergence,
    Limits,
    decide,
    labels_left,
    next_progress,
)
from ionloop.flows.concurrent_learning.settings import STAGES, TRUST, ExistingData, InitialData
from ionloop.flows.concurrent_learning.validation import (
    ANY_DEVIATION,
    Validation,
    of_validation,
    validate,
)
from ionloop.geometry.perturb import perturb
from ionloop.jobs.decorators import collecting_job, stored_job
from ionloop.jobs.explore.lammps import LammpsExploreMaker
from ionloop.jobs.label.accounts import join_late_labels, outstanding
from ionloop.jobs.label.batches import await_quorum
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.label.ingest import ingest
from ionloop.jobs.placement import PART, PRODUCTION, assign
from ionloop.jobs.provenance import stamp
from ionloop.jobs.roles import ExploreMaker, LabelMaker, Reference, SelectMaker, TrainMaker
from ionloop.jobs.select import WindowSelectMaker
from ionloop.jobs.tolerances import in_force
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import Stage
from ionloop.schemas.frames import Frames, symbols_of
from ionloop.schemas.iteration import Action, IterationDoc, StageProgress
from ionloop.schemas.label import Labels, LevelOfTheory
from ionloop.schemas.potential import EnsembleDoc
from ionloop.schemas.run import SummaryDoc
from ionloop.schemas.selection import TrustWindow

Typed = TypeVar("Typed", TrainMaker, ExploreMaker)


@dataclass
class ConcurrentLearningMaker(Maker):
    """Generates a potential by concurrent learning (Huang et al. 2021, figure 2).

    Parameters
    ----------
    label, train, explore, select
        The four roles. Without a type map, models have the elements of the start structures.
    production
        Trains the potential at the end, usually for more steps; as `train` where it is None.
    stages
        Stages of the exploration, in order.
    trust
        Trust levels, where a stage has none of its own.
    initial, convergence, limits, validation
        Settings of the loop itself.
    warm_production
        Start the production training from the last ensemble.
    seed
        Seed from which all others follow.
    """

    label: LabelMaker = field(default_factory=ForceFieldLabelMaker)
    train: TrainMaker = field(default_factory=DeepmdTrainMaker)
    explore: ExploreMaker = field(default_factory=LammpsExploreMaker)
    select: SelectMaker = field(default_factory=WindowSelectMaker)
    production: TrainMaker | None = None
    stages: list[Stage] = field(default_factory=lambda: list(STAGES))
    trust: TrustWindow = field(default_factory=lambda: TRUST)
    initial: InitialData = field(default_factory=InitialData)
    convergence: Convergence = field(default_factory=Convergence)
    limits: Limits = field(default_factory=Limits)
    validation: Validation = field(default_factory=Validation)
    warm_production: bool = True
    seed: int = 1
    name: str = "concurrent learning"

    def make(self, structures: Sequence[Frames]) -> Flow:
        """Build the flow from start structures; the output is a `SummaryDoc`.

        Raises
        ------
        InputError
            If the validation asks for more frames than its MD gives, or a stage has several
            pressures, but NVT.
        """
        for number, stage in enumerate(self.stages):
            if idle := stage.idle_pressures:
                raise InputError(f"stages[{number}].pressures: {idle}")
        if idle := self.validation.idle_pressures(self.stages[-1]):
            raise InputError(f"validation.pressures: {idle}")
        if lack := self.validation.lack(self.stages[-1], sum(map(len, structures))):
            raise InputError(f"validation.n_frames: {lack}")
        return self._complete(structures)._flow(structures)

    def _complete(self, structures: Sequence[Frames]) -> Self:
        """Return the Maker with what was left to the start structures, or to `train`, filled in."""
        symbols = symbols_of(structures)
        return replace(
            self,
            train=_typed(self.train, symbols),
            explore=_typed(self.explore, symbols),
            production=_typed(self.production or self.train, symbols),
        )

    def _flow(self, structures: Sequence[Frames]) -> Flow:
        assert self.production is not None
        starts, relax = self._start_structures(list(structures))
        dataset, initial = self._initial_dataset(starts, sum(map(len, structures)))
        loop = assign(begin_loop(self, starts, dataset), "decide", "begin loop", light=True)
        production = self.production.make(
            loop.output.labels, loop.output.ensemble if self.warm_production else None, self.seed
        )
        production.append_name("production ", prepend=True)
        production.update_metadata({PART: PRODUCTION}, dynamic=True)
        validation, judged = self._validation(starts, loop.output, production.output)
        summary = assign(
            summarise_run(loop.output, production.output, judged),
            "decide",
            "summarise run",
            light=True,
        )
        jobs = [*relax, *initial, loop, production, *validation, summary]
        return Flow(jobs, output=summary.output, name=self.name)

    def in_force(self) -> Self:
        """Return the Maker with the tolerances of the current job's run as they are now."""
        return replace(
            self,
            label=in_force(self.label, "label"),
            train=in_force(self.train, "train"),
            explore=in_force(self.explore, "explore"),
            production=in_force(self.production, PRODUCTION),
            limits=in_force(self.limits, "limits"),
        )

    def turn(
        self,
        structures: Reference,
        dataset: list[Reference],
        previous: dict[str, Reference],
        progress: StageProgress,
        late: Sequence[str] = (),
    ) -> Flow:
        """Build one turn: train, explore, select, label, compare, decide.

        Labels that were late in turns before join the data set first.
        """
        stage = self.stages[progress.stage]
        seed = self.seed + 1000 * (progress.index + 1)
        join = self._join(late)
        dataset = [*dataset, *(job.output for job in join)]
        train = self.train.make(dataset, previous.get("ensemble"), seed)
        # The first turn of a stage begins afresh: the last stage may have had another cell.
        continues = stage.start == "continued" and progress.turn_of_stage > 0
        explore = self.explore.make(
            train.output,
            stage,
            structures,
            stage.trust or self.trust,
            seed,
            previous["exploration"] if continues else None,
        )
        select = self.select.make(explore.output, dataset, self._max_labels(stage, progress), seed)
        label = self.label.make(select.output.picked)
        compare = self.train.evaluate(train.output, label.output)
        results = {
            "ensemble": train.output,
            "exploration": explore.output,
            "selection": select.output,
            "labels": label.output,
            "evaluation": compare.output,
        }
        if join:
            results["joined"] = join[0].output
        return self._concluded(
            [*join, train, explore, select, label, compare], structures, dataset, results, progress
        )

    def wait_for_late(
        self,
        structures: Reference,
        dataset: list[Reference],
        results: dict[str, Reference],
        progress: StageProgress,
        late: Sequence[str],
    ) -> Flow:
        """Build the end of the last turn: labels that were late join before it is concluded."""
        wait = await_quorum(self.label.level, list(late), len(late), n_batches=0)
        assign(wait, "label", f"wait for {len(late)} late labels", cores=0, light=True)
        (join,) = self._join(late, wait.output)
        return self._concluded(
            [wait, join],
            structures,
            [*dataset, join.output],
            {**results, "late": join.output},
            progress,
        )

    def _concluded(
        self,
        parts: list[Flow | Job],
        structures: Reference,
        dataset: list[Reference],
        results: dict[str, Reference],
        progress: StageProgress,
    ) -> Flow:
        decision = conclude_turn(self, structures, dataset, results, progress)
        for part in parts:
            part.update_metadata({"iteration": progress.index}, dynamic=True)
        assign(decision, "decide", f"conclude turn {progress.index}", light=True)
        decision.update_metadata({"iteration": progress.index}, dynamic=False)
        return Flow([*parts, decision], output=decision.output, name=f"turn {progress.index}")

    def _join(self, late: Sequence[str], after: Reference = None) -> list[Job]:
        if not late:
            return []
        join = join_late_labels(self.label.level, list(late), after, limits=self.label.terms.limits)
        return [assign(join, "label", "join late labels", light=True)]

    def _start_structures(self, structures: list[Frames]) -> tuple[Reference, list[Job]]:
        if not self.initial.relax:
            return structures, []
        relax = self.label.relax(structures)
        return relax.output, [relax]

    def _initial_dataset(
        self, structures: Reference, n_starts: int
    ) -> tuple[list[Reference], list[Flow | Job]]:
        jobs: list[Flow | Job] = [self._ingest(data) for data in self.initial.data]
        jobs += self._dynamics(structures, n_starts)
        outputs = [job.output for job in jobs]
        if self.initial.n_perturbed:
            perturbed = perturb_structures(self.initial, structures, self.seed)
            label = self.label.make(
                assign(perturbed, "label", "perturb structures", light=True).output
            )
            jobs += [perturbed, label]
            outputs.append(label.output)
        return outputs, jobs

    def _ingest(self, data: ExistingData) -> Job:
        job: Job = ingest(
            [data.path],
            data.format,
            data.type_map,
            self._level_of(data),
            data.limits(self.label.terms.limits),
            getattr(self.select, "limits", None),
            data.check_units,
        )
        return assign(job, "label", f"ingest {data.path}", light=True)

    def _dynamics(self, structures: Reference, n_starts: int) -> list[Job]:
        starts = _single_starts(structures, n_starts)
        runs = [run for section in self.initial.aimd for run in section.runs]
        return [self.label.aimd([start], run) for run in runs for start in starts]

    def _level_of(self, data: ExistingData) -> LevelOfTheory:
        if data.same_level:
            return self.label.level
        return LevelOfTheory(code="existing data", settings={"level": data.level or data.path})

    def _max_labels(self, stage: Stage, progress: StageProgress) -> int:
        asked = stage.max_labels or self.select.max_labels
        left = labels_left(progress.n_labels, self.limits, self.validation.n_labels)
        return asked if left is None else min(asked, left)

    def _validation(
        self, structures: Reference, loop: Reference, potential: Reference
    ) -> tuple[list[Flow | Job], Reference]:
        """Build the validation: MD, frames at random, labels, errors of the potential."""
        if not self.validation.temperatures:
            return [], None
        seed = self.seed + 999_983  # away from the seeds of every turn
        stage = self.validation.stage(self.stages[-1])
        explore = self.explore.make(loop.ensemble, stage, structures, ANY_DEVIATION, seed)
        random = self.select.at_random()
        select = random.make(explore.output, loop.labels, self.validation.n_frames, seed)
        label = self.label.for_all().make(select.output.picked)
        assert self.production is not None
        compare = self.production.evaluate(potential, label.output)
        jobs: list[Flow | Job] = [explore, select, label, compare]
        for part in jobs:
            part.append_name("validation ", prepend=True)
        judged = {
            "exploration": explore.output,
            "selection": select.output,
            "labels": label.output,
            "evaluation": compare.output,
        }
        return jobs, judged


@stored_job()
def perturb_structures(initial: InitialData, structures: list[Frames], seed: int) -> list[Frames]:
    """Perturb every start structure."""
    return [
        perturb(
            frames,
            initial.n_perturbed,
            displacement=initial.displacement,
            strain=initial.strain,
            seed=seed + number,
        )
        for number, frames in enumerate(structures)
    ]


@collecting_job()
def begin_loop(
    maker: ConcurrentLearningMaker, structures: Any, dataset: list[Any]
) -> Response[Any]:
    """Begin the first turn, with the initial labels counted.

    Raises
    ------
    ValueError
        If there is nothing to train on.
    """
    maker = maker.in_force()
    labels: list[Labels] = [part.value for part in dataset]
    if not any(part.n_accepted for part in labels):
        raise ValueError(
            "there are no initial labels: set initial.n_perturbed or initial.data in the run file"
        )
    progress = StageProgress(
        n_labels=sum(part.n_requested for part in labels),
        core_hours=sum(part.core_seconds for part in labels) / 3600,
    )
    late = outstanding(labels)
    turn = maker.turn(_pass_on(structures), _pass_on(dataset), {}, progress, late)
    return Response(replace=turn)


@collecting_job()
def conclude_turn(
    maker: ConcurrentLearningMaker,
    structures: Any,
    dataset: list[Any],
    results: dict[str, Any],
    progress: StageProgress,
) -> Response[Any]:
    """Account for the turn, decide what follows, and begin it.

    Labels that are late for the last turn are waited for: no other comes that they could join.
    """
    maker = maker.in_force()
    turn = TurnResults(**{name: result.value for name, result in results.items()})
    labels = [*(part.value for part in dataset), turn.labels]
    late = outstanding(labels)
    counted = after_turn(progress, turn, len(late))
    reserved = maker.validation.n_labels
    decision = decide(counted, maker.stages, maker.convergence, maker.limits, reserved)
    references = [*_pass_on(dataset), results["labels"].reference]
    is_last = decision.action in (Action.CONVERGED, Action.STOP)
    if is_last and late and turn.late is None:
        given = _pass_on(structures), _pass_on(dataset), _pass_on(results)
        return Response(replace=maker.wait_for_late(*given, progress, late))
    document = iteration_document(
        turn,
        counted,
        decision,
        labels,
        maker.train.validation_fraction,
        maker.initial.allow_mixed,
    ).model_copy(
        update={
            **stamp(),
            "labels": references,
            "ensemble": results["ensemble"].reference,
            "jobs": {name: result.uuid for name, result in results.items()},
        }
    )
    if is_last:
        return Response(output=document)
    following = maker.turn(
        _pass_on(structures),
        references,
        _pass_on(results),
        next_progress(counted, decision.action),
        late,
    )
    return Response(output=document, replace=following)


@collecting_job(SummaryDoc)
def summarise_run(loop: Any, production: Any, judged: dict[str, Any] | None) -> SummaryDoc:
    """Write the end of the run, readable on its own."""
    last: IterationDoc = loop.value
    potential: EnsembleDoc = production.value
    found = {name: result.value for name, result in (judged or {}).items()}
    validation = validate(**found) if found else None
    unjudged = of_validation(validation, found["selection"].max_labels) if found else []
    spent = potential.core_seconds + (validation.core_seconds if validation else 0.0)
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
        validation=validation,
        notes=[
            *last.dataset.notes,
            *last.progress.notes,
            *of_potential(potential, last.dataset),
            *unjudged,
        ],
    )


def _typed(maker: Typed, symbols: list[str]) -> Typed:
    """Return a Maker with a type map: its own, or else these symbols."""
    return maker if maker.type_map else replace(maker, type_map=symbols)


def _single_starts(structures: Reference, n_starts: int) -> list[Reference]:
    """Return every start structure by itself; relaxed ones come singly."""
    if isinstance(structures, OutputReference):
        return [structures[number] for number in range(n_starts)]
    return [part[index] for part in structures for index in range(len(part))]


def _pass_on(argument: Any) -> Any:
    """Return references where values were resolved, so that nothing heavy is stored again."""
    if isinstance(argument, dict):
        return {key: _pass_on(value) for key, value in argument.items()}
    if isinstance(argument, list):
        return [_pass_on(value) for value in argument]
    return argument.reference if isinstance(argument, ResolvedReference) else argument
