"""Calculate frames and record each label before the next one starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing

from ionloop.codes.common.acceptance import Terms, failed
from ionloop.jobs.documents import stamp
from ionloop.jobs.label.ledger import current_ledger
from ionloop.jobs.label.twins import adopt_twins
from ionloop.schemas.document import Document
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, LevelOfTheory


class LabelBatch(Document):
    """What a labelling job returns; the labels themselves are in the ledger."""

    frame_ids: list[str]
    n_calculated: int


class LabellerError(IonloopError, RuntimeError):
    """Some frames of a batch gave no result."""


def without_twins(frames: Sequence[Frames], terms: Terms) -> list[str]:
    """Return the ids of single frames whose configuration has no label, in whatever description.

    The labels of the others are recorded as labels of the given frames.

    Parameters
    ----------
    frames
        Single frames without a label of their own.
    terms
        Conditions on which a label counts.
    """
    ledger = current_ledger()
    adopted = adopt_twins(ledger, frames, terms)
    ledger.record([label.model_copy(update=stamp()) for label in adopted.values()])
    return [frame.ids[0] for frame in frames if frame.ids[0] not in adopted]


def record_labels(
    frames: Sequence[Frames],
    terms: Terms,
    calculate: Callable[[Frames], LabelDoc],
    cores: int = 1,
) -> int:
    """Calculate frames one by one, recording each label before the next one starts.

    Frames that have a label on these terms are skipped, so that an interrupted batch continues. A
    frame is claimed while it is calculated; frames that other processes calculate are waited for.

    Parameters
    ----------
    frames
        Single frames.
    terms
        Level of theory, and conditions on which an existing label counts.
    calculate
        Labels one frame.
    cores
        Cores of a calculation, which count for a failed one too.

    Returns
    -------
    int
        How many frames were calculated.

    Raises
    ------
    LabellerError
        At the end, if some frames gave no result: the job counts as failed, so that it can be run
        again, and the turn goes on without those frames.
    """
    ledger, n_calculated, lost = current_ledger(), 0, []
    with closing(ledger.to_calculate(frames, terms)) as claimed:
        for frame in claimed:
            label = attempt(frame, terms.level, calculate, cores)
            if label.reason and label.calculation is None:  # there was no result
                lost.append(f"{label.frame_id}: {label.detail}")
            ledger.record([label.model_copy(update={**stamp(), "effort": terms.effort})])
            n_calculated += 1
    if lost:
        raise LabellerError(f"{len(lost)} of {n_calculated} frames gave no result; {lost[0]}")
    return n_calculated


def attempt(
    frame: Frames, level: LevelOfTheory, calculate: Callable[[Frames], LabelDoc], cores: int
) -> LabelDoc:
    """Return the label of a frame, or the failure: whatever is raised costs this label alone.

    Parameters
    ----------
    frame
        Frames of one.
    level
        Level of theory of the label.
    calculate, cores
        As for `record_labels`.
    """
    begin = time.monotonic()
    try:
        return calculate(frame)
    except Exception as error:  # noqa: BLE001  # a labeller may raise anything
        return failed(frame, level, error, time.monotonic() - begin, cores)


def by_id(frames: Sequence[Frames], frame_ids: Sequence[str]) -> list[Frames]:
    """Return single frames in the order of the given ids.

    Parameters
    ----------
    frames
        Frames that hold them.
    frame_ids
        Their ids.
    """
    places = {frame_id: (part, index) for part in frames for index, frame_id in enumerate(part.ids)}
    return [part[index] for part, index in map(places.__getitem__, frame_ids)]
