"""An explorer in one file: it displaces atoms at random instead of running molecular dynamics.

It drives the harmonic crystals of `harmonic_trainer`: what it needs of a potential are forces.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from harmonic_trainer import KIND, predict
from jobflow import Flow

from ionloop.codes.common.prediction import ensemble_deviation, ensemble_virial_deviation
from ionloop.codes.common.trajectory import Trajectory, TrajectoryTask
from ionloop.jobs.documents import stamp, stored_job
from ionloop.jobs.explore.accounts import collect_exploration
from ionloop.jobs.explore.reduction import join_reduced, reduce_trajectory
from ionloop.jobs.explore.starts import Perturbation, planned, trajectory_tasks
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.roles import ExploreMaker, Reference
from ionloop.schemas.exploration import ExplorationPart, Stage
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import EnsembleDoc
from ionloop.schemas.selection import TrustWindow
from ionloop.selection import PhysicalLimits

STIFFNESS = 20.0  # eV/Å², from which the mean square displacement at a temperature follows
BOLTZMANN = 8.617333e-5  # eV/K


@dataclass
class RandomExploreMaker(ExploreMaker):
    """Explores by random displacements, as large as they are at the stage's temperature.

    Parameters
    ----------
    limits
        Limits beyond which a geometry is failed, whatever its deviation.
    """

    drives: ClassVar[frozenset[str]] = frozenset({KIND})

    limits: PhysicalLimits = field(default_factory=PhysicalLimits)

    def make(
        self,
        ensemble: Reference,
        stage: Stage,
        structures: list[Frames],
        trust: TrustWindow,
        seed: int = 0,
        previous: Reference = None,
    ) -> Flow:
        """Run a stage; the output is an `ExplorationDoc`."""
        tasks = trajectory_tasks(stage, structures, Perturbation(), seed)
        explore = explore_at_random(self, ensemble, tasks, trust, stage.warm_up)
        assign(explore, Role.EXPLORE, "displace atoms")
        asked = [planned(task) for task in tasks]
        collect = collect_exploration(0.5, stage, trust, asked, [explore.output])
        assign(collect, Role.EXPLORE, "collect exploration", bookkeeping=True)
        return Flow([explore, collect], output=collect.output, name=self.name)


@stored_job(ExplorationPart)
def explore_at_random(
    maker: RandomExploreMaker,
    ensemble: EnsembleDoc,
    tasks: list[TrajectoryTask],
    trust: TrustWindow,
    skip: int,
) -> ExplorationPart:
    """Make up the trajectories, judge their frames, and return what selection needs."""
    trajectories = [walk(task, ensemble) for task in tasks]
    reduced = [
        reduce_trajectory(each, each.task.start, trust, maker.limits, skip, max_candidates=100)
        for each in trajectories
    ]
    return join_reduced(trajectories, reduced, cores=1).model_copy(update=stamp(maker))


def walk(task: TrajectoryTask, ensemble: EnsembleDoc) -> Trajectory:
    """Displace the atoms of the start anew for every frame, and measure the deviations."""
    start, size = task.start, np.sqrt(BOLTZMANN * task.temperature / STIFFNESS)
    moves = np.random.default_rng(task.seed).normal(0, size, (task.n_frames, start.n_atoms, 3))
    cells = np.repeat(start.cells, task.n_frames, axis=0)
    frames = Frames(start.symbols, start.positions + moves, cells).snapped().of_group(task.group)
    prediction = predict([member.model for member in ensemble.members], frames)
    return Trajectory(
        task=task,
        frames=frames,
        steps=np.arange(task.n_frames) * task.dump_every,
        max_devi_f=ensemble_deviation(prediction.forces),
        max_devi_v=ensemble_virial_deviation(prediction.virials, start.n_atoms),
        temperatures=np.full(task.n_frames, float(task.temperature)),
        finished=True,
        stop_reason="",
        seconds=0.0,
    )
