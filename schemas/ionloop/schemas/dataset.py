"""The data set: which labels a training uses, and on which side of the split each one is.

Frames that are close to each other in time are almost the same, so that one of them on the side
of validation would test nothing. The split therefore divides groups of frames, such as
trajectories.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from pydantic import Field

from ionloop.schemas.document import Document
from ionloop.schemas.frames import Frames

STRETCH = 20  # 0.4 ps at 20 fs
"""Frames of one group, where a file does not say which trajectory they belong to."""


class DatasetDoc(Document):
    """Ids of the labels and the split; the frames themselves stay with the labels."""

    level: str
    """hash of the level of theory; of mixed ones, joined by +"""
    notes: list[str] = Field([])
    """what a reader of its results has to know"""
    training: list[str]
    """frame ids trained on"""
    validation: list[str]
    """frame ids held back, for good"""
    sha256: str
    """hash of level and sorted frame ids"""

    @property
    def levels(self) -> list[str]:
        """Hashes of the levels of theory, more than one only where mixing was allowed."""
        return self.level.split("+")


def is_validation(group: str, fraction: float) -> bool:
    """Decide the side of the split from the name of a group alone.

    A group keeps its side whatever else is in the data set, so that validation frames never
    reach a training, also not in a later iteration.

    Parameters
    ----------
    group
        Name of the group; of a frame that stands for itself, its id.
    fraction
        Expected fraction of validation frames, 0 to 1.
    """
    draw = int(hashlib.sha256(f"split {group}".encode()).hexdigest()[:12], 16)
    return draw < fraction * 16**12


def held_back(frames: Iterable[Frames], fraction: float) -> set[str]:
    """Return the ids of the frames that are kept from training.

    If a frame came in two groups, the first one decides: what is trained on stays trained on.

    Parameters
    ----------
    frames
        The frames in the order in which they joined the data set.
    fraction
        Expected fraction of validation frames, 0 to 1.
    """
    groups: dict[str, str] = {}
    for part in frames:
        for frame_id, group in zip(part.ids, part.origins, strict=True):
            groups.setdefault(frame_id, group)
    sides = {group: is_validation(group, fraction) for group in set(groups.values())}
    return {frame_id for frame_id, group in groups.items() if sides[group]}


def in_stretches(frames: Frames, length: int = STRETCH) -> Frames:
    """Group frames of unknown origin: each `length` frames in a row, named by the first of them.

    Frames that are added at the end change no group. Groups that the frames already have stay.

    Parameters
    ----------
    frames
        f frames.
    length
        Frames of one group.
    """
    if frames.groups is not None:
        return frames
    firsts = [frames.ids[number - number % length] for number in range(len(frames))]
    return replace(frames, groups=tuple(firsts))


def dataset_hash(level: str, frame_ids: list[str]) -> str:
    """Return the sha256 of the level and the sorted frame ids.

    Parameters
    ----------
    level
        Hash of the level of theory.
    frame_ids
        Ids of the frames, in any order.
    """
    text = "\n".join([level, *sorted(frame_ids)])
    return hashlib.sha256(text.encode()).hexdigest()
