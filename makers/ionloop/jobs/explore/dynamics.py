"""Exploration by molecular dynamics, whichever program runs it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobflow import Flow, Response

from ionloop.codes.common.md import MdSettings
from ionloop.codes.common.trajectory import Trajectory, TrajectoryTask
from ionloop.geometry.periodic import supercell
from ionloop.jobs.documents import collecting_job, stamp, stored_job
from ionloop.jobs.explore.accounts import collect_exploration
from ionloop.jobs.explore.reduction import join_reduced, reduce_trajectory
from ionloop.jobs.explore.starts import Perturbation, cooled, planned, trajectory_tasks
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.roles import ExploreMaker, Reference
from ionloop.jobs.tolerances import in_force
from ionloop.jobs.unfinished import unfinished
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import ExplorationPart, Stage
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import EnsembleDoc
from ionloop.schemas.selection import TrustWindow
from ionloop.selection import PhysicalLimits


@dataclass
class MdExploreMaker(ExploreMaker):
    """Explores by molecular dynamics.

    Parameters
    ----------
    settings
        Thermostat, barostat, and when a trajectory counts as exploded.
    type_map
        Chemical symbols in the order of the models' types.
    limits
        Limits beyond which a geometry is failed, whatever its deviation.
    perturbation
        How start structures are disturbed.
    max_candidates
        Candidates of a trajectory that are kept at most, evenly spaced.
    floor
        Fraction of the trajectories that must give at least one frame.
    """

    settings: MdSettings = field(default_factory=MdSettings)
    limits: PhysicalLimits = field(default_factory=PhysicalLimits)
    perturbation: Perturbation = field(default_factory=Perturbation)
    max_candidates: int = 200
    floor: float = 0.5

    @property
    def job_cores(self) -> int:
        """Cores of one job."""
        return 1

    @property
    def trajectory_cores(self) -> int:
        """Cores that one trajectory has for itself."""
        return 1

    @property
    def trajectories_per_job(self) -> int:
        """Trajectories that one job runs; they share one start-up of the program."""
        return 1

    @abstractmethod
    def run(
        self, tasks: Sequence[TrajectoryTask], ensemble: EnsembleDoc, folder: Path
    ) -> tuple[list[Trajectory], Mapping[str, str]]:
        """Run trajectories, or continue those that were interrupted in this folder.

        Parameters
        ----------
        tasks
            The trajectories.
        ensemble
            The models.
        folder
            Where the program works.

        Returns
        -------
        tuple
            The valid part of each trajectory, and versions of the programs by name.
        """

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

        Parameters
        ----------
        ensemble, stage, structures, trust, seed, previous
            As for `ExploreMaker.make`.

        Raises
        ------
        InputError
            If the stage has several pressures, but NVT.
        """
        if idle := stage.idle_pressures:
            raise InputError(f"pressures: {idle}")
        spread = spread_trajectories(self, ensemble, stage, structures, trust, seed, previous)
        assign(spread, Role.EXPLORE, "spread trajectories", bookkeeping=True)
        return Flow([spread], output=spread.output, name=self.name)


@collecting_job()
def spread_trajectories(
    maker: MdExploreMaker,
    ensemble: Any,
    stage: Stage,
    structures: Any,
    trust: TrustWindow,
    seed: int,
    previous: Any,
) -> Response[Any]:
    """Set up the trajectories of a stage and spread them over jobs.

    Parameters
    ----------
    maker
        How to explore.
    ensemble
        Reference to the `EnsembleDoc`.
    stage, structures, trust, seed
        As for `ExploreMaker.make`.
    previous
        Reference to the `ExplorationDoc` that is continued, if any.

    Raises
    ------
    InputError
        If the program cannot run potentials of this kind.
    """
    maker = in_force(maker)
    maker.check_kind(ensemble.value.kind)
    given = getattr(structures, "value", structures)  # relaxed ones come by reference
    starts = [start for part in given for start in part]
    left_off = previous.value.last_good_frames if previous else {}
    tasks = trajectory_tasks(stage, starts, maker.perturbation, seed, left_off)
    originals = [supercell(start, stage.supercell) for start in starts]
    n_batches = -(-len(tasks) // maker.trajectories_per_job)
    batches = []
    for number in range(n_batches):
        part = tasks[number::n_batches]
        job = explore_trajectories(maker, ensemble.reference, part, trust, stage.warm_up, originals)
        name = f"explore batch {number + 1} of {n_batches}"
        batches.append(assign(job, Role.EXPLORE, name, maker.job_cores))
    outputs = [batch.output for batch in batches]
    collect = collect_exploration(maker.floor, stage, trust, list(map(planned, tasks)), outputs)
    assign(collect, Role.EXPLORE, "collect exploration", bookkeeping=True)
    return Response(replace=Flow([*batches, collect], output=collect.output))


@stored_job(ExplorationPart, expose_store=True)
def explore_trajectories(
    maker: MdExploreMaker,
    ensemble: EnsembleDoc,
    tasks: list[TrajectoryTask],
    trust: TrustWindow,
    skip: int,
    originals: Sequence[Frames] = (),
) -> ExplorationPart:
    """Run the trajectories of one job and return what selection needs.

    Parameters
    ----------
    maker
        How to explore.
    ensemble
        The models.
    tasks
        The trajectories.
    trust
        Window with which frames are judged.
    skip
        Frames of MD steps below this one do not count.
    originals
        The start structures as they were given, with whose cells the frames are compared, so that
        the drift of trajectories adds up from turn to turn. Jobs that version 0.1 entered may have
        none: there a cell is compared with that of its own start.
    """
    maker = in_force(maker)
    with unfinished() as folder:
        trajectories, versions = maker.run(tasks, ensemble, folder)
    reduced = []
    for each in trajectories:
        run = cooled(each, maker.settings.thermostat_damping)
        start = originals[each.task.structure] if originals else each.task.start
        kept = reduce_trajectory(run, start, trust, maker.limits, skip, maker.max_candidates)
        reduced.append(kept)
    return join_reduced(trajectories, reduced, maker.trajectory_cores).model_copy(
        update=stamp(maker.settings, **versions)
    )
