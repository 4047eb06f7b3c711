"""The result of a stage: every trajectory that was asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ionloop.jobs.documents import collecting_job, stamp
from ionloop.jobs.explore.reduction import summarise
from ionloop.jobs.explore.starts import not_run
from ionloop.jobs.roles import FloorError
from ionloop.jobs.tolerances import changed
from ionloop.schemas.exploration import LOST, ExplorationDoc, Stage, TrajectoryDoc
from ionloop.schemas.selection import TrustWindow
from ionloop.schemas.table import join_tables


@collecting_job(ExplorationDoc, tolerant=True)
def collect_exploration(
    floor: float,
    stage: Stage,
    trust: TrustWindow,
    asked: list[TrajectoryDoc] | int,
    parts: list[Any],
) -> ExplorationDoc:
    """Gather the batches that came back; the trajectories of the others count as lost.

    Parameters
    ----------
    floor
        Smallest fraction of the trajectories that must come beyond their first frame.
    stage, trust
        What was explored, and the window with which frames were judged.
    asked
        Every trajectory that was asked for. Jobs that version 0.1 entered may give their number
        only, which is the same for all conditions of the stage.
    parts
        References to the `ExplorationPart` of every batch.

    Raises
    ------
    FloorError
        If too few trajectories gave a frame beyond their start.
    """
    done = [part for part in parts if part.value is not None]
    came = {doc.index: doc for part in done for doc in part.value.trajectories}
    if isinstance(asked, int):
        each = asked // len(stage.conditions)
        conditions = [condition for condition in stage.conditions for _ in range(each)]
        asked = [not_run(index, where, stage.steps) for index, where in enumerate(conditions)]
    trajectories = [came.get(trajectory.index, trajectory) for trajectory in asked]
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


def check_floor(trajectories: Sequence[TrajectoryDoc], floor: float) -> None:
    """Check that enough trajectories came beyond their first frame.

    Parameters
    ----------
    trajectories
        All trajectories of a stage.
    floor
        Smallest fraction of them.

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
