"""The data set: which labels a training uses, and on which side of the split each one is."""

from __future__ import annotations

import hashlib

from pydantic import Field

from ionloop.schemas.document import Document


class DatasetDoc(Document):
    """Label ids and the split; the frames themselves stay with the labels."""

    level: str = Field(description="hash of the level of theory; of mixed ones, joined by +")
    notes: list[str] = Field(
        default_factory=list, description="what a reader of its results has to know"
    )
    training: list[str] = Field(description="frame ids trained on")
    validation: list[str] = Field(description="frame ids held back, for good")
    sha256: str = Field(description="hash of level and sorted frame ids")

    @property
    def levels(self) -> list[str]:
        """Hashes of the levels of theory, more than one only where mixing was allowed."""
        return self.level.split("+")


def is_validation(frame_id: str, fraction: float) -> bool:
    """Decide the side of the split from the frame id alone.

    A frame keeps its side whatever else is in the data set, so that validation frames never
    reach a training, also not in a later iteration.

    Parameters
    ----------
    frame_id
        Content id of the frame.
    fraction
        Expected fraction of validation frames, 0 to 1.
    """
    draw = int(hashlib.sha256(f"split {frame_id}".encode()).hexdigest()[:12], 16)
    return draw < fraction * 16**12


def dataset_hash(level: str, frame_ids: list[str]) -> str:
    """Return the sha256 of the level and the sorted frame ids."""
    text = "\n".join([level, *sorted(frame_ids)])
    return hashlib.sha256(text.encode()).hexdigest()
