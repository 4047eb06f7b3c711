"""What of a trajectory travels: deviations, verdicts, and the frames that may be picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ionloop.codes.common.trajectory import Trajectory
from ionloop.jobs.explore.starts import planned, shifted
from ionloop.schemas.exploration import DeviationSummary, ExplorationPart, TrajectoryDoc
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.selection import TrustWindow, Verdict
from ionloop.schemas.table import Table, join_tables
from ionloop.selection import PhysicalLimits, judge


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
        part.deviations.with_columns(frame=shifted(part.deviations["frame"], offset))
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


def resolved_value(argument: Any) -> Any:
    """Return the value of an argument that may or may not have been a reference."""
    return getattr(argument, "value", argument)
