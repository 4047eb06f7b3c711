"""The loop: train, explore, select, label, decide; then production and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Annotated, Any, Self, TypeVar

from jobflow import Flow, Job, Maker, OutputReference, Response
from jobflow.core.reference import ResolvedReference
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ionloop.codes.acceptance import AcceptanceLimits
from ionloop.codes.dynamics import AboveZero, DynamicsSettings, MolecularDynamics
from ionloop.codes.structures import perturb
from ionloop.makers.base import (
    PART,
    PRODUCTION,
    ExploreMaker,
    LabelMaker,
    Reference,
    SelectMaker,
    TrainMaker,
    assign,
    collecting_job,
    stamp,
    stored_job,
)
from ionloop.makers.explore import LammpsExploreMaker
from ionloop.makers.label import (
    ForceFieldLabelMaker,
    await_quorum,
    ingest,
    join_late_labels,
    outstanding,
)
from ionloop.makers.select import WindowSelectMaker
from ionloop.makers.tolerances import in_force
from ionloop.makers.train import DeepmdTrainMaker
from ionloop.schemas.dataset import STRETCH, DatasetDoc, dataset_hash, held_back
from ionloop.schemas.document import Model
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import MOST, Ensemble, ExplorationDoc, Stage, Supercell
from ionloop.schemas.frames import Frames, symbols_of
from ionloop.schemas.iteration import Action, Decision, IterationDoc, StageProgress, TurnCounts
from ionloop.schemas.label import Labels, LevelOfTheory, at_todays_levels
from ionloop.schemas.potential import EnsembleDoc, EvaluationDoc
from ionloop.schemas.run import SummaryDoc, ValidationDoc
from ionloop.schemas.selection import SelectionDoc, TrustWindow
from ionloop.schemas.units import Pressure, Temperature
from ionloop.workflows.decision import (
    Convergence,
    Limits,
    decide,
    labels_left,
    next_progress,
)

Typed = TypeVar("Typed", TrainMaker, ExploreMaker)

STAGES = (Stage(temperatures=[300.0, 600.0, 900.0], steps=2000),)
TRUST = TrustWindow(low=0.12, high=0.25)
"""Stages and trust levels where none are given: those of Huang et al. (2021) for LGPS."""

# Every frame that is physically sound is a candidate in this window: validation does not choose.
ANY_DEVIATION = TrustWindow(low=1e-12, high=1e12)

CONDITIONS = ("ensemble", "pressures", "supercell", "timestep")
"""What the validation MD takes from the last stage."""

ONE_PRESSURE: dict[str, Any] = {"pressures": [1.0]}
"""Of an NVT validation after stages of NPT, whose pressures it does not have."""


class ExistingData(Model):
    """Labelled data that are there already."""

    path: str = Field(description="file or folder, in any format that dpdata or ASE reads")
    format: str | None = Field(None, description="dpdata's name of the format; guessed if absent")
    type_map: list[str] | None = Field(
        None, description="symbols of the types, where the format has numbers only"
    )
    same_level: bool = Field(
        False, description="the data were calculated at the labeller's own level of theory"
    )
    level: str | None = Field(
        None, description="their level of theory in words, where it is another (allow_mixed)"
    )
    check_units: bool = Field(
        True,
        description="refuse numbers that look like Bohr, Hartree or kcal/mol instead of Å, eV and "
        "eV/Å",
    )

    def limits(self, limits: AcceptanceLimits) -> AcceptanceLimits:
        """Return the labeller's limits as far as they hold for these data.

        Energies of another level of theory have another zero.
        """
        return limits if self.same_level else limits.model_copy(update={"energy_window": None})


class InitialDynamics(DynamicsSettings):
    """Molecular dynamics by the labeller: one run per temperature and start structure."""

    temperatures: list[AboveZero] = Field(min_length=1, description="temperatures in K")

    @property
    def runs(self) -> list[MolecularDynamics]:
        """The runs of one start structure."""
        shared = self.model_dump(exclude={"temperatures"})
        return [MolecularDynamics(temperature=t, **shared) for t in self.temperatures]


class InitialData(Model):
    """Where the first training set comes from."""

    n_perturbed: NonNegativeInt = Field(
        60,
        le=1_000_000,
        description="perturbed frames per start structure that are labelled first",
    )
    displacement: float = Field(
        0.1, ge=0, description="largest displacement of an atom", json_schema_extra={"unit": "Å"}
    )
    strain: float = Field(0.03, ge=0, le=0.3, description="largest relative strain of the cell")
    relax: bool = Field(False, description="relax the start structures with the labeller first")
    aimd: list[InitialDynamics] = Field(
        default_factory=list,
        description="molecular dynamics by the labeller from the start structures, whose kept "
        "steps are labels",
    )
    data: list[ExistingData] = Field(default_factory=list, description="labelled data")
    allow_mixed: bool = Field(
        False,
        description="whether data of another level of theory than the labeller's may be trained "
        "on too; every report then says so",
    )


class Validation(Model):
    """Frames that judge the production potential: never trained on, picked at random.

    Its molecular dynamics has the conditions of the last stage, unless told otherwise here.
    """

    temperatures: list[Temperature] = Field(
        default_factory=list,
        description="temperatures in K of the validation MD; empty: no validation",
    )
    n_frames: PositiveInt = Field(30, description="frames labelled for it, over all trajectories")
    steps: PositiveInt = Field(
        1000,
        description="MD steps of each validation trajectory, of which the first fifth is set aside",
    )
    n_structures: PositiveInt = Field(
        4, le=MOST, description="trajectories per temperature, pressure and start structure"
    )
    spacing: float = Field(
        200.0,
        gt=0,
        description="smallest time between frames of one trajectory, so that each counts as one "
        "of its own",
        json_schema_extra={"unit": "fs"},
    )
    timestep: float | None = Field(
        None, gt=0, description="time step in fs; none: that of the last stage"
    )
    ensemble: Ensemble | None = Field(None, description="NVT or NPT; none: that of the last stage")
    pressures: Annotated[list[Pressure], Field(min_length=1)] | None = Field(
        None, description="in bar (NPT only); none: those of the last stage"
    )
    supercell: Supercell | None = Field(
        None, description="repetitions of the start structures; none: those of the last stage"
    )

    @model_validator(mode="after")
    def _check_pressures(self) -> Self:
        if self.pressures and self.ensemble == "nvt":
            raise ValueError("pressures are for NPT, and ensemble is nvt: leave them out")
        return self

    @property
    def n_labels(self) -> int:
        """Labels that the validation asks for."""
        return self.n_frames if self.temperatures else 0

    def conditions(self, last: Stage) -> dict[str, Any]:
        """Return ensemble, pressures, supercell and timestep of the validation MD.

        Parameters
        ----------
        last
            The last stage of the run, whose conditions hold where no others are given.
        """
        given = {key: getattr(self, key) or getattr(last, key) for key in CONDITIONS}
        return given if given["ensemble"] != "nvt" or self.pressures else given | ONE_PRESSURE

    def stage(self, last: Stage) -> Stage:
        """Return the validation MD as a stage of exploration.

        Parameters
        ----------
        last
            The last stage of the run.
        """
        given = self.conditions(last)
        apart = ceil(self.spacing / given["timestep"])
        return Stage(
            temperatures=self.temperatures,
            steps=self.steps,
            n_structures=self.n_structures,
            dump_every=min(apart, self.steps),
            skip=self.steps // 5,
            max_labels=self.n_frames,
            **given,
        )

    def idle_pressures(self, last: Stage) -> str | None:
        """Return `Stage.idle_pressures` of the validation MD."""
        return last.model_copy(update=self.conditions(last)).idle_pressures

    def n_given(self, last: Stage, n_starts: int) -> int:
        """Return how many frames the validation MD gives at most.

        Parameters
        ----------
        last
            The last stage of the run.
        n_starts
            Number of start structures.
        """
        stage = self.stage(last)
        if stage.dump_every * stage.timestep < self.spacing:
            return 0
        return stage.n_counted * len(stage.conditions) * stage.n_structures * n_starts

    def lack(self, last: Stage, n_starts: int) -> str | None:
        """Say why the validation MD cannot give the frames that are asked for; None if it can."""
        given = self.n_given(last, n_starts) if self.temperatures else 0
        if given >= self.n_labels:
            return None
        return (
            f"{self.n_frames} frames are asked for, and the validation MD gives {given}: frames of "
            f"one trajectory lie {self.spacing:g} fs apart, and {self.steps} steps are "
            f"{self.steps * self.stage(last).timestep:g} fs, of which a fifth is set aside"
        )


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


@dataclass(frozen=True)
class TurnResults:
    """What the steps of one turn gave.

    Attributes
    ----------
    joined
        Labels that were late for turns before and joined this one.
    late
        Labels that were late for the last turn and joined before it was concluded.
    """

    ensemble: EnsembleDoc
    exploration: ExplorationDoc
    selection: SelectionDoc
    labels: Labels
    evaluation: EvaluationDoc
    joined: Labels | None = None
    late: Labels | None = None

    @property
    def core_seconds(self) -> float:
        """What the turn cost, core seconds."""
        parts = [self.ensemble, self.exploration, self.labels, self.joined, self.late]
        return sum(part.core_seconds for part in parts if part is not None)


def after_turn(progress: StageProgress, turn: TurnResults, n_late: int = 0) -> StageProgress:
    """Return the progress with a finished turn counted in, and labels that are still to come."""
    counts = TurnCounts(
        **turn.selection.counts.model_dump(),
        conditions=turn.selection.conditions,
        n_trajectories=len(turn.exploration.trajectories),
        n_finished=turn.exploration.n_finished,
        n_lost=turn.exploration.n_lost,
        n_new_labels=turn.labels.n_requested + n_late,
    )
    few = few_models(turn.ensemble)
    notes = [f"turn {progress.index}: {few}"] if few else []
    return progress.model_copy(
        update={
            "notes": [*progress.notes, *notes],
            "accurate_fractions": [*progress.accurate_fractions, counts.accurate_fraction],
            "history": [*progress.history, counts],
            "n_labels": progress.n_labels + turn.labels.n_requested,
            "core_hours": progress.core_hours + turn.core_seconds / 3600,
        }
    )


def few_models(ensemble: EnsembleDoc) -> str:
    """Return a sentence where the deviations are of fewer models than were asked for."""
    n, asked = len(ensemble.members), ensemble.n_asked
    return "" if n == asked else f"model deviations are of {n} models, {asked} were asked for"


def of_potential(potential: EnsembleDoc, dataset: DatasetDoc) -> list[str]:
    """Return what a reader of the production training's errors has to know."""
    unjudged = "it was trained on the held-back frames too and has no held-back error"
    notes = [*potential.notes, *potential.failures]
    if dataset.validation and not potential.validation_errors:
        notes.append(unjudged)
    return [f"production: {note}" for note in notes]


def of_validation(validation: ValidationDoc | None, n_asked: int) -> list[str]:
    """Return what a reader of the validation's errors has to know.

    Parameters
    ----------
    validation
        What came of it, if anything.
    n_asked
        Frames that were asked for.
    """
    if validation is None:
        return [f"validation: none of {n_asked} frames was labelled, nothing judges the potential"]
    notes = []
    if validation.n_unfinished:
        notes.append(
            f"{validation.n_unfinished} of {validation.n_trajectories} trajectories stopped early, "
            "and the errors are of frames before that"
        )
    if validation.n_accepted < n_asked:
        notes.append(f"the errors are of {validation.n_accepted} frames, {n_asked} were asked for")
    return [f"validation: {note}" for note in notes]


def iteration_document(
    turn: TurnResults,
    progress: StageProgress,
    decision: Decision,
    dataset: Sequence[Labels],
    validation_fraction: float,
    allow_mixed: bool = False,
) -> IterationDoc:
    """Build the account of a turn."""
    counts = turn.selection.counts
    return IterationDoc(
        stage=progress.stage,
        turn_of_stage=progress.turn_of_stage,
        temperatures=turn.exploration.stage.temperatures,
        counts=counts,
        conditions=turn.selection.conditions,
        unfinished=turn.exploration.unfinished,
        accurate_fraction=counts.accurate_fraction,
        n_requested=turn.labels.n_requested,
        n_accepted=turn.labels.n_accepted,
        rejected=turn.labels.rejected_by_reason,
        n_late=len(turn.labels.late),
        n_training_frames=sum(labels.n_accepted for labels in dataset),
        train_errors=turn.ensemble.train_errors,
        validation_errors=turn.ensemble.validation_errors,
        new_label_errors=turn.evaluation.errors,
        deviation_against_error=turn.evaluation.deviation_against_error,
        rank_correlation=turn.evaluation.rank_correlation,
        failures=[*turn.ensemble.failures, *turn.exploration.failures],
        n_models=len(turn.ensemble.members),
        n_models_asked=turn.ensemble.n_asked,
        notes=[*filter(None, [few_models(turn.ensemble)]), *turn.ensemble.notes],
        progress=progress,
        dataset=dataset_document(dataset, validation_fraction, allow_mixed),
        decision=decision,
    )


def dataset_document(
    dataset: Sequence[Labels], validation_fraction: float, allow_mixed: bool = False
) -> DatasetDoc:
    """Describe the data set: ids, split, hash.

    Raises
    ------
    ValueError
        If labels of two levels of theory come together and that is not allowed.
    """
    dataset = at_todays_levels(dataset)
    levels = {labels.level.hash: labels.level.words for labels in dataset}
    words = " and ".join(levels.values())
    if len(levels) > 1 and not allow_mixed:
        raise ValueError(
            f"a data set has one level of theory, got {words}; set initial.allow_mixed to train "
            "on them together"
        )
    frames = [part for labels in dataset for part in labels.frames]
    ids = [frame_id for part in frames for frame_id in part.ids]
    held = held_back(frames, validation_fraction)
    level = "+".join(sorted(levels))
    mixed = f"labels of {len(levels)} levels of theory are mixed (initial.allow_mixed): {words}"
    share = split_note(len(held), len(set(ids)), validation_fraction)
    return DatasetDoc(
        level=level,
        notes=[
            *([mixed] if len(levels) > 1 else []),
            *([share] if share else []),
            *dict.fromkeys(note for labels in dataset for note in labels.notes),
        ],
        training=sorted(set(ids) - held),
        validation=sorted(held),
        sha256=dataset_hash(level, ids),
    )


def split_note(n_held: int, n_frames: int, fraction: float) -> str:
    """Return a sentence where much more or less is held back than was asked for."""
    asked = f"train.validation_fraction asks for {fraction:.0%}, by whole trajectories"
    if fraction * n_frames >= 3 and not n_held:  # by chance in 5 % of the cases, frame by frame
        return f"no frame is held back, so that no training has an error on such ({asked})"
    if n_held > max(3 * fraction * n_frames, STRETCH):
        return f"{n_held} of {n_frames} frames are held back from training ({asked})"
    return ""


def validate(
    selection: SelectionDoc,
    labels: Labels,
    evaluation: EvaluationDoc,
    exploration: ExplorationDoc | None = None,
) -> ValidationDoc | None:
    """Describe the validation; None if no label came back.

    What is delivered are the models, not their mean: the worst of them is what can be promised.
    """
    if evaluation.errors is None:
        return None
    models = evaluation.model_errors
    return ValidationDoc(
        errors=max(models or [evaluation.errors], key=lambda each: each.force_mev_per_angstrom),
        models=models,
        stage=exploration.stage if exploration else None,
        n_trajectories=len(exploration.trajectories) if exploration else None,
        n_unfinished=sum(not t.finished for t in exploration.trajectories) if exploration else 0,
        temperatures=sorted({pick.temperature for pick in selection.picks}),
        n_requested=labels.n_requested,
        n_accepted=labels.n_accepted,
        core_seconds=labels.core_seconds + (exploration.core_seconds if exploration else 0.0),
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
