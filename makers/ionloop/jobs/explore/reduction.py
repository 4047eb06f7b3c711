"""What is kept of a trajectory: deviations, verdicts, and the frames that may be picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ionloop.codes.common.trajectory import Trajectory
from ionloop.jobs.explore.starts import planned
from ionloop.schemas.exploration import DeviationSummary, ExplorationPart, TrajectoryDoc, renumbered
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.selection import TrustWindow, Verdict
from ionloop.schemas.table import Table, join_tables
from ionloop.selection import Observed, PhysicalLimits, judge
from ionloop.selection.trust import Judgement


@dataclass(frozen=True)
class Reduced:
    """A trajectory reduced to its deviations and the frames that may be picked."""

    deviations: Table
    candidates: Frames
    last_good: int | None
    final: Frames


def reduce_trajectory(
    trajectory: Trajectory,
    original: Frames,
    trust: TrustWindow,
    limits: PhysicalLimits,
    skip: int,
    max_candidates: int,
) -> Reduced:
    """Judge every frame of a trajectory and keep the candidates.

    Parameters
    ----------
    trajectory
        The valid part of the trajectory.
    original
        Start structure as it was given, with whose cell the cells are compared.
    trust, limits
        Trust windows and physical limits.
    skip
        Frames of MD steps below this one do not count.
    max_candidates
        Candidates that are kept at most, evenly spaced.
    """
    target, frames = trajectory.task.temperature, trajectory.frames
    observed = Observed(
        trajectory.steps, trajectory.max_devi_f, trajectory.max_devi_v, trajectory.temperatures
    )
    judgement = judge(
        frames, observed, trust, target=target, start=original, limits=limits, skip=skip
    )
    verdicts = judgement.verdicts
    kept = thin(np.flatnonzero(verdicts == Verdict.CANDIDATE), max_candidates)
    good = np.flatnonzero(np.isin(verdicts, [Verdict.ACCURATE, Verdict.CANDIDATE]))[-1:]
    return Reduced(
        deviations=_deviations(trajectory, judgement, kept),
        candidates=frames[kept],
        last_good=next(iter(trajectory.steps[good].tolist()), None),
        final=frames[good],
    )


def _deviations(trajectory: Trajectory, judgement: Judgement, kept: Array) -> Table:
    """Return a row for every frame; `kept` are the numbers of the candidates that are kept."""
    task, n = trajectory.task, len(trajectory.frames)
    frame = np.full(n, -1)
    frame[kept] = np.arange(len(kept))
    return Table(
        {
            "trajectory": np.full(n, task.index),
            "step": trajectory.steps,
            "temperature": np.full(n, float(task.temperature)),
            "pressure": np.full(n, float(task.pressure)),
            "composition": np.full(n, task.start.formula),
            "max_devi_f": trajectory.max_devi_f,
            "max_devi_v": trajectory.max_devi_v,
            "min_distance_ratio": judgement.min_distance_ratios,
            "verdict": judgement.verdicts,
            "reason": judgement.reasons,
            "frame": frame,
        }
    )


def thin(indices: Array, most: int) -> Array:
    """Thin indices out to evenly spaced ones.

    Parameters
    ----------
    indices
        Indices in ascending order, (n,).
    most
        Indices that are kept at most.
    """
    if len(indices) <= most:
        return indices
    spaced: Array = indices[np.linspace(0, len(indices) - 1, most).round().astype(int)]
    return spaced


def join_reduced(
    trajectories: Sequence[Trajectory], reduced: Sequence[Reduced], cores: int
) -> ExplorationPart:
    """Join the reduced trajectories of one job.

    Parameters
    ----------
    trajectories, reduced
        The trajectories, and what is kept of each. In the joined table, `frame` counts through
        the candidates of all.
    cores
        Cores on which each of them ran.
    """
    sizes = [len(part.candidates) for part in reduced]
    tables = renumbered([part.deviations for part in reduced], sizes)
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


def document(trajectory: Trajectory, last_good: int | None = None) -> TrajectoryDoc:
    """Describe a trajectory.

    Parameters
    ----------
    trajectory
        The trajectory.
    last_good
        MD step of its last good frame, if it has one.
    """
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


def summarise(deviations: Table) -> list[DeviationSummary]:
    """Summarise the finite force deviations by temperature."""
    if not len(deviations):
        return []
    counted = deviations.where(
        np.isfinite(deviations["max_devi_f"]) & (deviations["verdict"] != Verdict.SKIPPED)
    )
    summaries = []
    for temperature in np.unique(counted["temperature"]).tolist():
        values = counted["max_devi_f"][counted["temperature"] == temperature]
        q10, q50, q90 = np.quantile(values, [0.1, 0.5, 0.9]).tolist()
        summary = {"temperature": temperature, "n_frames": len(values)}
        summaries.append(DeviationSummary(**summary, q10=q10, q50=q50, q90=q90))
    return summaries
