"""The account of a labelling step: every frame accepted, rejected or late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ionloop.codes.common.acceptance import AcceptanceLimits, judged
from ionloop.jobs.documents import collecting_job, stamp, stored_job
from ionloop.jobs.label.ledger import current_ledger
from ionloop.jobs.label.twins import distinct
from ionloop.jobs.roles import FloorError
from ionloop.jobs.tolerances import changed
from ionloop.schemas.frames import concatenate
from ionloop.schemas.label import (
    LabelDoc,
    Labels,
    LabelStatus,
    LevelOfTheory,
    Rejection,
    RejectReason,
)

ALLOWANCE = 2
"""Labels that a step may lose whatever the floor, by default."""


@collecting_job(Labels, tolerant=True)
def collect_labels(
    level: LevelOfTheory,
    floor: float,
    frames: Any,
    calculated: list[str],
    awaited: list[Any],
    late: bool = False,
    **tolerances: Any,
) -> Labels:
    """Account for every requested frame: accepted, rejected with its reason, or late.

    The ledger counts, not the outputs of the batches: a label that a batch recorded before it
    failed is in the account.

    Parameters
    ----------
    level
        Level of theory of the labels.
    floor
        Smallest accepted fraction.
    frames
        List of the requested Frames, together with the reference to it.
    calculated
        Ids of the frames that had no label before this step.
    awaited
        Outputs of the jobs that this one has to wait for.
    late
        Whether frames without a label may still come.
    **tolerances
        `allowance`, the labels that may be lost whatever the fraction, and `limits`, the
        AcceptanceLimits of this run, by which every label is judged, also one of another run. An
        older stored job has no limits, and takes the verdicts that the labels have.

    Raises
    ------
    FloorError
        If too few labels were accepted.
    """
    wanted = [frame.ids[0] for frame in distinct(frames.value)]
    found = _judged(wanted, level, tolerances.get("limits"))
    labels = account(level, wanted, found, set(calculated), late=late)
    tolerances = {"floor": floor, "allowance": ALLOWANCE} | tolerances | changed()
    check_floor(labels, tolerances["floor"], tolerances["allowance"])
    return labels.model_copy(update={**stamp(level), "notes": _not_taken(calculated, level)})


@stored_job(Labels, expose_store=True)
def join_late_labels(
    level: LevelOfTheory,
    frame_ids: list[str],
    after: Any = None,
    limits: AcceptanceLimits | None = None,
) -> Labels:
    """Account for labels that came after the quorum of their turn, which counted them as late.

    Parameters
    ----------
    level
        Level of theory of the labels.
    frame_ids
        Ids of the late frames.
    after
        Output of the job that this one has to wait for.
    limits
        AcceptanceLimits of this run; an older stored job has none.
    """
    found = _judged(frame_ids, level, limits)
    labels = account(level, frame_ids, found, set(found), late=True)
    return labels.model_copy(update=stamp(level))


def _not_taken(frame_ids: list[str], level: LevelOfTheory) -> list[str]:
    others = current_ledger().not_taken(frame_ids, level)
    return [
        f"the store has {n} labels of these frames at {words}, which were not taken: nothing "
        f"proves that this is the level of this run, {level.description}"
        for words, n in sorted(others.items())
    ]


def _judged(
    frame_ids: list[str], level: LevelOfTheory, limits: AcceptanceLimits | None
) -> dict[str, LabelDoc]:
    found = current_ledger().find(frame_ids, level)
    if (now := changed().get("limits")) is not None:
        limits = AcceptanceLimits.model_validate(now)
    return {i: judged(label, limits) for i, label in found.items()} if limits else found


def outstanding(parts: Sequence[Labels]) -> list[str]:
    """Return the frame ids that were late in some part and are in no later one."""
    late = dict.fromkeys(frame_id for part in parts for frame_id in part.late)
    accepted = {frame_id for part in parts for frames in part.frames for frame_id in frames.ids}
    rejected = {rejection.frame_id for part in parts for rejection in part.rejections}
    return [frame_id for frame_id in late if frame_id not in accepted | rejected]


def account(
    level: LevelOfTheory,
    wanted: list[str],
    found: dict[str, LabelDoc],
    calculated: set[str],
    *,
    late: bool = False,
) -> Labels:
    """Build the account of a labelling step.

    Parameters
    ----------
    level
        Level of theory of the labels.
    wanted
        Ids of the requested frames.
    found
        What the ledger has of them.
    calculated
        Ids of those that were not there before this step.
    late
        Whether a frame that the ledger does not have is late, not lost.

    Raises
    ------
    AssertionError
        If requested is not accepted plus rejected plus late: a label would be lost.
    """
    awaited = [i for i in wanted if late and i not in found]
    accepted = [found[i] for i in wanted if i in found and found[i].status is LabelStatus.ACCEPTED]
    good = {label.frame_id for label in accepted} | set(awaited)
    rejections = [rejection(i, found.get(i)) for i in wanted if i not in good]
    new = [found[i] for i in wanted if i in found and i in calculated]
    # A key names the elements of its frame, a data set the level of all of them.
    frames = concatenate(replace(label.frame, level=level.hash) for label in accepted)
    n_accepted = sum(len(part) for part in frames)
    if len(wanted) != n_accepted + len(rejections) + len(awaited):
        raise AssertionError(
            f"{len(wanted)} labels requested, {n_accepted} accepted, {len(rejections)} rejected, "
            f"{len(awaited)} late"
        )
    return Labels(
        level=level,
        n_requested=len(wanted),
        n_reused=len(wanted) - len(calculated & set(wanted)),
        n_accepted=n_accepted,
        rejections=rejections,
        late=awaited,
        seconds=sum(label.seconds for label in new),
        core_seconds=sum(label.seconds * label.cores for label in new),
        frames=frames,
    )


def check_floor(labels: Labels, floor: float, allowance: int = ALLOWANCE) -> None:
    """Raise if too few labels were accepted.

    Parameters
    ----------
    labels
        The account of a labelling step.
    floor
        Smallest accepted fraction.
    allowance
        Labels that may be lost whatever the fraction. Of a small step the loss of one is a large
        fraction and says little; a step of which nothing is left has taught nothing, and fails.

    Raises
    ------
    FloorError
        If the accepted fraction is below `floor` and more is lost than `allowance`, or all.
    """
    lost = labels.n_requested - labels.n_accepted
    excused = labels.n_accepted > 0 and lost <= allowance
    if excused or labels.n_accepted >= floor * labels.n_requested:
        return
    fates = labels.rejected_by_reason | ({"late": len(labels.late)} if labels.late else {})
    details = [rejection.detail for rejection in labels.rejections] or ["they are late"]
    raise FloorError(
        f"{labels.n_accepted} of {labels.n_requested} labels were accepted, the floor is "
        f"{floor:.0%} (label.floor) or a loss of {allowance} (label.allowance); rejected: "
        f"{', '.join(f'{n} {fate}' for fate, n in fates.items())}; first: {details[0]}"
    )


def rejection(frame_id: str, label: LabelDoc | None) -> Rejection:
    """Return why there is no accepted label of a frame.

    Parameters
    ----------
    frame_id
        Id of the frame.
    label
        Its rejected label; None where there is none.
    """
    if label is None or label.reason is None:
        detail = "the labelling job ended before this frame was done"
        return Rejection(frame_id=frame_id, reason=RejectReason.NO_RESULT, detail=detail)
    return Rejection(frame_id=frame_id, reason=label.reason, detail=label.detail)
