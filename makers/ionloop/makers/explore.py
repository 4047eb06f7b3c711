"""Exploration: trajectories spread over jobs, judged where they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from jobflow import Flow, Response
from pydantic import Field

from ionloop.codes import lammps
from ionloop.codes.lammps import LammpsSettings, Trajectory, TrajectoryTask
from ionloop.codes.structures import perturb, supercell
from ionloop.makers.base import (
    ExploreMaker,
    FloorError,
    Reference,
    assign,
    collecting_job,
    stamp,
    stored_job,
    unfinished,
)
from ionloop.schemas.document import Model
from ionloop.schemas.exploration import (
    DeviationSummary,
    ExplorationDoc,
    ExplorationPart,
    Stage,
    TrajectoryDoc,
)
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.potential import EnsembleDoc
from ionloop.schemas.selection import TrustWindow, Verdict
from ionloop.schemas.table import Table, join_tables
from ionloop.schemas.units import Length
from ionloop.selection import PhysicalLimits, judge


class Perturbation(Model):
    """How the start structures of the trajectories are disturbed."""

    displacement: Annotated[Length, Field(ge=0)] = Field(
        0.1, description="largest displacement of an atom in Å"
    )
    strain: float = Field(0.0, ge=0, lt=1, description="largest relative strain of the cell")


@dataclass
class LammpsExploreMaker(ExploreMaker):
    """Explores with LAMMPS molecular dynamics.

    Parameters
    ----------
    settings
        Thermostat, barostat, and when a trajectory counts as exploded.
    type_map
        Chemical symbols in the order of the models' types.
    limits
        Geometries that are failed whatever the deviation says.
    perturbation
        How start structures are disturbed.
    batch_size
        Trajectories per job; they share one start-up of LAMMPS.
    max_candidates
        Candidates per trajectory that travel back; evenly thinned above.
    floor
        Fraction of the trajectories that must give at least one frame.
    cores
        Cores of one LAMMPS process.
    per_gpu
        LAMMPS processes of one job, side by side; they share its trajectories and its GPU.
    """

    name: str = "explore"
    settings: LammpsSettings = field(default_factory=LammpsSettings)
    type_map: list[str] = field(default_factory=list)
    limits: PhysicalLimits = field(default_factory=PhysicalLimits)
    perturbation: Perturbation = field(default_factory=Perturbation)
    batch_size: int = 8
    max_candidates: int = 200
    floor: float = 0.5
    cores: int = 1
    per_gpu: int = 1

    def make(
        self,
        ensemble: Reference,
        stage: Stage,
        structures: Reference,
        trust: TrustWindow,
        seed: int = 0,
        previous: Reference = None,
    ) -> Flow:
        """Run a stage; the output is an `ExplorationDoc`."""
        spread = assign(
            spread_trajectories(self, ensemble, stage, structures, trust, seed, previous),
            "explore",
            "spread trajectories",
            light=True,
        )
        return Flow([spread], output=spread.output, name=self.name)


@collecting_job()
def spread_trajectories(
    maker: LammpsExploreMaker,
    ensemble: Any,
    stage: Stage,
    structures: Any,
    trust: TrustWindow,
    seed: int,
    previous: Any,
) -> Response[Any]:
    """Set up the trajectories of a stage and spread them over jobs."""
    starts = [start for part in _value(structures) for start in single_frames(part)]
    finals = previous.value.final_frames if previous else []
    tasks = trajectory_tasks(stage, starts, maker.perturbation, seed, finals)
    n_batches = -(-len(tasks) // maker.batch_size)
    batches = [
        assign(
            explore_with_lammps(
                maker, ensemble.reference, tasks[number::n_batches], trust, stage.skip
            ),
            "explore",
            f"explore batch {number + 1} of {n_batches}",
            maker.cores * maker.per_gpu,
        )
        for number in range(n_batches)
    ]
    outputs = [batch.output for batch in batches]
    collect = collect_exploration(maker.floor, stage, trust, len(tasks), outputs)
    assign(collect, "explore", "collect exploration", light=True)
    return Response(replace=Flow([*batches, collect], output=collect.output))


@stored_job(ExplorationPart)
def explore_with_lammps(
    maker: LammpsExploreMaker,
    ensemble: EnsembleDoc,
    tasks: list[TrajectoryTask],
    trust: TrustWindow,
    skip: int,
) -> ExplorationPart:
    """Run the trajectories of one job and send back what selection needs."""
    models = [member.model for member in ensemble.members]
    with unfinished() as folder:
        trajectories = lammps.run_trajectories(
            tasks, models, maker.type_map, maker.settings, folder, maker.per_gpu
        )
        versions = {"lammps": lammps.version_of_run(folder)}
    reduced = [
        reduce_trajectory(trajectory, trust, maker.limits, skip, maker.max_candidates)
        for trajectory in trajectories
    ]
    return join_reduced(trajectories, reduced, maker.cores).model_copy(
        update=stamp(maker.settings, **versions)
    )


@collecting_job(ExplorationDoc, tolerant=True)
def collect_exploration(
    floor: float, stage: Stage, trust: TrustWindow, n_asked: int, parts: list[Any]
) -> ExplorationDoc:
    """Gather the batches that came back.

    Raises
    ------
    FloorError
        If too few trajectories gave a frame beyond their start.
    """
    done = [part for part in parts if part.value is not None]
    trajectories = [doc for part in done for doc in part.value.trajectories]
    check_floor(trajectories, n_asked, floor)
    failures = [f"{len(parts) - len(done)} batches of trajectories failed"]
    return ExplorationDoc(
        **stamp(),
        stage=stage,
        trust=trust,
        trajectories=sorted(trajectories, key=lambda doc: doc.index),
        summary=summarise(join_tables(part.value.deviations for part in done)),
        parts=[part.reference for part in done],
        failures=failures if len(done) < len(parts) else [],
        core_seconds=sum(part.value.core_seconds for part in done),
    )


def trajectory_tasks(
    stage: Stage,
    structures: Sequence[Frames],
    perturbation: Perturbation,
    seed: int,
    finals: Sequence[Frames] = (),
) -> list[TrajectoryTask]:
    """Set up every condition of a stage with every start structure.

    Parameters
    ----------
    stage
        The conditions.
    structures
        Single frames. Each is used `stage.n_structures` times per condition, disturbed anew.
    perturbation
        Size of the disturbance.
    seed
        Seed of disturbances and velocities.
    finals
        Single frames to continue from: the trajectories start there instead, as they are, in
        turn if there are fewer frames than trajectories.
    """
    runs = [
        (structure, temperature, pressure)
        for temperature, pressure in stage.conditions
        for structure in structures
        for _ in range(stage.n_structures)
    ]
    seeds = np.random.default_rng(seed).integers(1, 2**31 - 1, size=len(runs)).tolist()
    return [
        TrajectoryTask(
            index=index,
            start=finals[index % len(finals)]
            if finals
            else disturbed(structure, stage.supercell, perturbation, run_seed),
            temperature=temperature,
            pressure=pressure,
            seed=run_seed,
            ensemble=stage.ensemble,
            steps=stage.steps,
            timestep=stage.timestep,
            dump_every=stage.dump_every,
        )
        for index, ((structure, temperature, pressure), run_seed) in enumerate(
            zip(runs, seeds, strict=True)
        )
    ]


def disturbed(
    structure: Frames, repetitions: tuple[int, int, int], perturbation: Perturbation, seed: int
) -> Frames:
    """Return the repeated and disturbed start structure."""
    return perturb(
        supercell(structure, repetitions),
        1,
        displacement=perturbation.displacement,
        strain=perturbation.strain,
        seed=seed,
    )


@dataclass(frozen=True)
class Reduced:
    """A trajectory reduced to its deviations and the frames that may be picked."""

    deviations: Table
    candidates: Frames
    final: Frames


def reduce_trajectory(
    trajectory: Trajectory,
    trust: TrustWindow,
    limits: PhysicalLimits,
    skip: int,
    max_candidates: int,
) -> Reduced:
    """Judge every frame and keep the candidates."""
    task = trajectory.task
    verdicts, reasons, ratios = judge(
        trajectory.frames,
        trajectory.steps,
        trajectory.max_devi_f,
        trust,
        max_devi_v=trajectory.max_devi_v,
        temperatures=trajectory.temperatures,
        target=task.temperature,
        start=task.start,
        limits=limits,
        skip=skip,
    )
    keep = thin(np.flatnonzero(verdicts == Verdict.CANDIDATE), max_candidates)
    n = len(trajectory.frames)
    frame = np.full(n, -1)
    frame[keep] = np.arange(len(keep))
    deviations = Table(
        {
            "trajectory": np.full(n, task.index),
            "step": trajectory.steps,
            "temperature": np.full(n, float(task.temperature)),
            "pressure": np.full(n, float(task.pressure)),
            "max_devi_f": trajectory.max_devi_f,
            "max_devi_v": trajectory.max_devi_v,
            "min_distance_ratio": ratios,
            "verdict": verdicts,
            "reason": reasons,
            "frame": frame,
        }
    )
    return Reduced(deviations, trajectory.frames[keep], trajectory.frames[-1:])


def thin(indices: Array, most: int) -> Array:
    """Return at most `most` of the indices, evenly spaced."""
    if len(indices) <= most:
        return indices
    spaced: Array = indices[np.linspace(0, len(indices) - 1, most).round().astype(int)]
    return spaced


def join_reduced(
    trajectories: Sequence[Trajectory], reduced: Sequence[Reduced], cores: int
) -> ExplorationPart:
    """Join the reduced trajectories of one job, `frame` counting through all candidates."""
    offsets = np.cumsum([0, *(len(part.candidates) for part in reduced)])
    tables = [
        part.deviations.with_columns(frame=_shift(part.deviations["frame"], offset))
        for part, offset in zip(reduced, offsets, strict=False)
    ]
    return ExplorationPart(
        trajectories=[document(trajectory) for trajectory in trajectories],
        deviations=join_tables(tables),
        candidates=[part.candidates for part in reduced if len(part.candidates)],
        final_frames=[part.final for part in reduced if len(part.final)],
        core_seconds=cores * sum(trajectory.seconds for trajectory in trajectories),
    )


def document(trajectory: Trajectory) -> TrajectoryDoc:
    """Describe a trajectory."""
    task = trajectory.task
    return TrajectoryDoc(
        index=task.index,
        temperature=task.temperature,
        pressure=task.pressure,
        seed=task.seed,
        start_id=task.start.ids[0],
        steps_asked=task.steps,
        steps_done=int(trajectory.steps[-1]) if len(trajectory.steps) else 0,
        n_frames=len(trajectory.frames),
        finished=trajectory.finished,
        stop_reason=trajectory.stop_reason,
        seconds=trajectory.seconds,
    )


def check_floor(trajectories: Sequence[TrajectoryDoc], n_asked: int, floor: float) -> None:
    """Raise if too few trajectories came beyond their first frame.

    Raises
    ------
    FloorError
        If their fraction is below `floor`.
    """
    usable = sum(trajectory.steps_done > 0 for trajectory in trajectories)
    if usable < floor * n_asked:
        reasons = [trajectory.stop_reason for trajectory in trajectories if trajectory.stop_reason]
        cause = (
            f"first: {reasons[0]}. More initial data, gentler first stages or longer trainings help"
            if reasons
            else "for the others, see the explore jobs that failed"
        )
        raise FloorError(
            f"{usable} of {n_asked} trajectories came beyond their first frame, the floor is "
            f"{floor:.0%} (explore.floor); {cause}"
        )


def summarise(deviations: Table) -> list[DeviationSummary]:
    """Summarise the finite force deviations by temperature."""
    if not len(deviations):
        return []
    counted = deviations.where(
        np.isfinite(deviations["max_devi_f"]) & (deviations["verdict"] != Verdict.SKIPPED)
    )
    return [
        _summary(temperature, counted["max_devi_f"][counted["temperature"] == temperature])
        for temperature in np.unique(counted["temperature"]).tolist()
    ]


def _summary(temperature: float, deviations: Array) -> DeviationSummary:
    q10, q50, q90 = np.quantile(deviations, [0.1, 0.5, 0.9]).tolist()
    return DeviationSummary(
        temperature=temperature, n_frames=len(deviations), q10=q10, q50=q50, q90=q90
    )


def single_frames(frames: Frames) -> list[Frames]:
    """Return the frames one by one."""
    return [frames[index] for index in range(len(frames))]


def _shift(frame: Array, offset: int) -> Array:
    return np.where(frame < 0, -1, frame + offset)


def _value(argument: Any) -> Any:
    """Return the value of an argument that may or may not have been a reference."""
    return getattr(argument, "value", argument)
