"""Exploration: trajectories spread over jobs, judged where they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
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
from ionloop.makers.tolerances import changed, in_force
from ionloop.schemas.document import Model
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import (
    LOST,
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
from ionloop.schemas.units import Length, Temperature
from ionloop.selection import PhysicalLimits, judge

STIFFNESS = 20.0
"""Force constant of an atom in eV/Å² that few atoms exceed; 8 was measured in LGPS, 2 in AgI."""

BOND = 2.5
"""Length in Å on which a strain moves neighbours apart."""

_BOLTZMANN = 8.617333e-5  # eV/K


class Perturbation(Model):
    """How the start structures of the trajectories are disturbed."""

    displacement: Annotated[Length, Field(ge=0)] = Field(
        0.1, description="largest displacement of an atom in Å"
    )
    strain: float = Field(0.0, ge=0, le=0.3, description="largest relative strain of the cell")

    @property
    def heat(self) -> Temperature:
        """What a disturbance may add to the temperature in K, when all of it becomes motion.

        An upper estimate for harmonic atoms, ``STIFFNESS * <x²> / k_B``, where ``<x²>`` is the
        mean square of a component of `displacement`, uniform in a ball, and of what `strain`,
        uniform too, makes of a bond.
        """
        mean_square = self.displacement**2 / 5 + (self.strain * BOND) ** 2 / 3
        return STIFFNESS * mean_square / _BOLTZMANN


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
        """Run a stage; the output is an `ExplorationDoc`.

        Raises
        ------
        InputError
            If the stage has several pressures, but NVT.
        """
        if idle := stage.idle_pressures:
            raise InputError(f"pressures: {idle}")
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
    maker = in_force(maker)
    starts = [start for part in _value(structures) for start in single_frames(part)]
    left_off = previous.value.last_good_frames if previous else {}
    tasks = trajectory_tasks(stage, starts, maker.perturbation, seed, left_off)
    originals = [supercell(start, stage.supercell) for start in starts]
    n_batches = -(-len(tasks) // maker.batch_size)
    batches = [
        assign(
            explore_with_lammps(
                maker,
                ensemble.reference,
                tasks[number::n_batches],
                trust,
                stage.warm_up,
                originals,
            ),
            "explore",
            f"explore batch {number + 1} of {n_batches}",
            maker.cores * maker.per_gpu,
        )
        for number in range(n_batches)
    ]
    outputs = [batch.output for batch in batches]
    collect = collect_exploration(maker.floor, stage, trust, list(map(planned, tasks)), outputs)
    assign(collect, "explore", "collect exploration", light=True)
    return Response(replace=Flow([*batches, collect], output=collect.output))


@stored_job(ExplorationPart, expose_store=True)
def explore_with_lammps(
    maker: LammpsExploreMaker,
    ensemble: EnsembleDoc,
    tasks: list[TrajectoryTask],
    trust: TrustWindow,
    skip: int,
    originals: Sequence[Frames] = (),
) -> ExplorationPart:
    """Run the trajectories of one job and send back what selection needs.

    Cells are compared with those of the originals, the start structures as they were given, so
    that what trajectories drift from turn to turn adds up. Jobs that version 0.1 entered know of
    no originals: there a cell is compared with that of its own start.
    """
    maker = in_force(maker)
    models = [member.model for member in ensemble.members]
    with unfinished() as folder:
        trajectories = lammps.run_trajectories(
            tasks, models, maker.type_map, maker.settings, folder, maker.per_gpu
        )
        versions = {"lammps": lammps.version_of_run(folder)}
    reduced = [
        reduce_trajectory(
            cooled(trajectory, maker.settings),
            originals[trajectory.task.structure] if originals else trajectory.task.start,
            trust,
            maker.limits,
            skip,
            maker.max_candidates,
        )
        for trajectory in trajectories
    ]
    return join_reduced(trajectories, reduced, maker.cores).model_copy(
        update=stamp(maker.settings, **versions)
    )


@collecting_job(ExplorationDoc, tolerant=True)
def collect_exploration(
    floor: float,
    stage: Stage,
    trust: TrustWindow,
    asked: list[TrajectoryDoc] | int,
    parts: list[Any],
) -> ExplorationDoc:
    """Gather the batches that came back; the trajectories of the others count as lost.

    Jobs that version 0.1 entered know only the number of trajectories that were asked for.

    Raises
    ------
    FloorError
        If too few trajectories gave a frame beyond their start.
    """
    done = [part for part in parts if part.value is not None]
    came = {doc.index: doc for part in done for doc in part.value.trajectories}
    plan = planned_by_number(stage, asked) if isinstance(asked, int) else asked
    trajectories = [came.get(each.index, each) for each in plan]
    check_floor(trajectories, changed().get("floor", floor))
    failures = [f"{len(parts) - len(done)} batches of trajectories failed"]
    return ExplorationDoc(
        **stamp(),
        stage=stage,
        trust=trust,
        trajectories=trajectories,
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
    left_off: Mapping[int, Frames] = MappingProxyType({}),
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
    left_off
        Single frames to continue from, by the index of the trajectory: equal stages and structures
        give the trajectory of that index the same condition and start structure. Those that are
        not named start from a structure disturbed anew.
    """
    runs = [
        (number, temperature, pressure)
        for temperature, pressure in stage.conditions
        for number in range(len(structures))
        for _ in range(stage.n_structures)
    ]
    seeds = np.random.default_rng(seed).integers(1, 2**31 - 1, size=len(runs)).tolist()
    return [
        TrajectoryTask(
            index=index,
            start=left_off[index]
            if index in left_off
            else disturbed(structures[number], stage.supercell, perturbation, run_seed),
            structure=number,
            heat=0.0 if index in left_off else perturbation.heat,
            temperature=temperature,
            pressure=pressure,
            driver=seeds[0] + index,  # in turn, and with another beginning in every turn
            seed=run_seed,
            ensemble=stage.ensemble,
            steps=stage.steps,
            timestep=stage.timestep,
            dump_every=stage.dump_every,
        )
        for index, ((number, temperature, pressure), run_seed) in enumerate(
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
    last_good: int | None
    final: Frames


def cooled(trajectory: Trajectory, settings: LammpsSettings) -> Trajectory:
    """Return a trajectory without what the perturbation of its start added to the temperature."""
    heat = trajectory.task.heat_at(trajectory.steps, settings.thermostat_damping)
    return replace(trajectory, temperatures=trajectory.temperatures - heat)


def reduce_trajectory(
    trajectory: Trajectory,
    original: Frames,
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
        start=original,
        limits=limits,
        skip=skip,
    )
    keep = thin(np.flatnonzero(verdicts == Verdict.CANDIDATE), max_candidates)
    good = np.flatnonzero(np.isin(verdicts, [Verdict.ACCURATE, Verdict.CANDIDATE]))[-1:]
    n = len(trajectory.frames)
    frame = np.full(n, -1)
    frame[keep] = np.arange(len(keep))
    deviations = Table(
        {
            "trajectory": np.full(n, task.index),
            "step": trajectory.steps,
            "temperature": np.full(n, float(task.temperature)),
            "pressure": np.full(n, float(task.pressure)),
            "composition": np.full(n, task.start.formula),
            "max_devi_f": trajectory.max_devi_f,
            "max_devi_v": trajectory.max_devi_v,
            "min_distance_ratio": ratios,
            "verdict": verdicts,
            "reason": reasons,
            "frame": frame,
        }
    )
    return Reduced(
        deviations=deviations,
        candidates=trajectory.frames[keep],
        last_good=next(iter(trajectory.steps[good].tolist()), None),
        final=trajectory.frames[good],
    )


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
        trajectories=[
            document(trajectory, part.last_good)
            for trajectory, part in zip(trajectories, reduced, strict=True)
        ],
        deviations=join_tables(tables),
        candidates=[part.candidates for part in reduced if len(part.candidates)],
        final_frames=[part.final for part in reduced if len(part.final)],
        core_seconds=cores * sum(trajectory.seconds for trajectory in trajectories),
    )


def planned(task: TrajectoryTask) -> TrajectoryDoc:
    """Describe a trajectory before anything has come of it."""
    return TrajectoryDoc(
        index=task.index,
        temperature=task.temperature,
        pressure=task.pressure,
        composition=task.start.formula,
        seed=task.seed,
        start_id=task.start.ids[0],
        steps_asked=task.steps,
        steps_done=0,
        n_frames=0,
        finished=False,
        stop_reason=LOST,
    )


def planned_by_number(stage: Stage, n: int) -> list[TrajectoryDoc]:
    """Describe n trajectories of a stage, which has equally many at each of its conditions."""
    each = n // len(stage.conditions)
    conditions = [condition for condition in stage.conditions for _ in range(each)]
    return [
        TrajectoryDoc(
            index=index,
            temperature=temperature,
            pressure=pressure,
            seed=0,
            start_id="",
            steps_asked=stage.steps,
            steps_done=0,
            n_frames=0,
            finished=False,
            stop_reason=LOST,
        )
        for index, (temperature, pressure) in enumerate(conditions)
    ]


def document(trajectory: Trajectory, last_good: int | None = None) -> TrajectoryDoc:
    """Describe a trajectory, and the MD step of its last good frame."""
    return planned(trajectory.task).model_copy(
        update={
            "steps_done": int(trajectory.steps[-1]) if len(trajectory.steps) else 0,
            "n_frames": len(trajectory.frames),
            "finished": trajectory.finished,
            "stop_reason": trajectory.stop_reason,
            "last_good": last_good,
            "seconds": trajectory.seconds,
        }
    )


def check_floor(trajectories: Sequence[TrajectoryDoc], floor: float) -> None:
    """Raise if too few trajectories came beyond their first frame.

    Raises
    ------
    FloorError
        If their fraction is below `floor`.
    """
    usable = sum(trajectory.steps_done > 0 for trajectory in trajectories)
    if usable < floor * len(trajectories):
        reasons = [each.stop_reason for each in trajectories if each.stop_reason not in ("", LOST)]
        cause = (
            f"first: {reasons[0]}. More initial data, gentler first stages or longer trainings help"
            if reasons
            else "for the others, see the explore jobs that failed"
        )
        raise FloorError(
            f"{usable} of {len(trajectories)} trajectories came beyond their first frame, the "
            f"floor is {floor:.0%} (explore.floor); {cause}"
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
