"""Twins: two frames that describe one configuration, which is calculated only once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ionloop.codes.common.acceptance import Terms
from ionloop.geometry.matching import Match, match, relabelled
from ionloop.jobs.label.ledger import Ledger
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, LevelOfTheory
from ionloop.schemas.likeness import SAME, likeness, likenesses_near


def distinct(frames: Sequence[Frames]) -> list[Frames]:
    """Return the first single frame of each configuration, in order.

    Parameters
    ----------
    frames
        Frames of any compositions.
    """
    chosen: dict[str, Frames] = {}
    alike: dict[str, list[Frames]] = {}
    for part in frames:
        for index, (frame_id, key) in enumerate(zip(part.ids, likeness(part), strict=True)):
            frame = part[index]
            if frame_id not in chosen and not _is_among(frame, alike):
                chosen[frame_id] = frame
                alike.setdefault(key, []).append(frame)
    return list(chosen.values())


def _is_among(frame: Frames, alike: dict[str, list[Frames]]) -> bool:
    near = (other for key in likenesses_near(frame) for other in alike.get(key, []))
    return any(match(frame, other, SAME) is not None for other in near)


def adopt_twins(ledger: Ledger, frames: Sequence[Frames], terms: Terms) -> dict[str, LabelDoc]:
    """Find labels of configurations that were calculated in another description.

    Parameters
    ----------
    ledger
        Where to look.
    frames
        Single frames without a label of their own.
    terms
        Level of theory, and conditions on which a label counts.

    Returns
    -------
    dict
        By frame id the labels of the given frames, not yet recorded: the energies are the same,
        forces and virials have the order and orientation of the frame.
    """
    keys = {frame.ids[0]: likenesses_near(frame) for frame in frames}
    alike = ledger.alike({key for near in keys.values() for key in near}, terms)
    adopted = {}
    for frame in frames:
        candidates = [label for key in keys[frame.ids[0]] for label in alike.get(key, [])]
        for label in candidates:
            if (found := match(frame, label.frame, SAME)) is not None:
                adopted[frame.ids[0]] = _copy(label, frame, found, terms.level.of(frame.species))
                break
    return adopted


def _copy(label: LabelDoc, frame: Frames, found: Match, level: LevelOfTheory) -> LabelDoc:
    # The groups are the original's: both frames belong to training, or both to validation.
    copied = replace(frame.unlabelled(), groups=label.frame.origins)
    if label.frame.is_labelled:
        copied = replace(relabelled(copied, label.frame, found), level=level.hash)
    changes = {
        "frame_id": frame.ids[0],
        "level": level.hash,
        "level_words": level.description,
        "frame": copied,
        "copied_from": label.copied_from or label.label_id,
        "seconds": 0.0,
    }
    return label.model_copy(update=changes)
