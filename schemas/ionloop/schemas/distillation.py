"""Distillation: what a student learned from its teacher, round by round."""

from __future__ import annotations

from pydantic import Field

from ionloop.schemas.document import ByReference, Document
from ionloop.schemas.potential import ForceErrors, Teacher
from ionloop.schemas.units import Seconds


class RoundDoc(Document):
    """A round: students are trained, explore, and are compared with the teacher on new frames."""

    number: int
    """of the round, from 0"""
    n_requested: int
    """frames of the students' MD, picked at random, that the teacher was to label"""
    n_accepted: int
    rejected: dict[str, int] = Field({})
    """rejected labels by reason"""
    n_training_frames: int
    """frames that the students had been given, labels and those of the teacher"""
    n_trajectories: int = 0
    n_finished: int = 0
    """trajectories of the students that came to their end"""
    errors: ForceErrors | None = None
    """of the worst student against the teacher, on the new frames before training on them"""
    train_errors: ForceErrors | None = None
    """of the worst student on the frames that it was trained on"""
    core_seconds: Seconds = 0.0
    """of the round; the first one has the teacher's own exploration"""

    @property
    def force_error(self) -> float | None:
        """Force error in meV/Å of the worst student against the teacher; None without a frame."""
        return self.errors.force_mev_per_angstrom if self.errors else None


class DistillationDoc(Document):
    """The end of a distillation."""

    teacher: Teacher
    rounds: list[RoundDoc]
    target: float | None = Field(json_schema_extra={"unit": "meV/Å"})
    """force error of a student against the teacher with which it is good enough; none: no label was
    held back from the teacher, so that its own error is not known"""
    reached: bool
    reason: str
    """why it ended, in a sentence"""
    potential: ByReference = None
    """EnsembleDoc that is delivered, by reference"""
    core_seconds: Seconds = 0.0
    """of all rounds, without the training of what is delivered"""

    @property
    def n_taught(self) -> int:
        """Frames that the teacher labelled, and that students were trained on in the end."""
        last = self.rounds[-1]
        return last.n_training_frames + last.n_accepted - len(self.teacher.labels)

    @property
    def description(self) -> str:
        """Who taught, on how many labels and frames, and what was reached, in a sentence."""
        return (
            f"distilled in {len(self.rounds)} round(s) from {self.teacher.description}, which "
            f"labelled {self.n_taught} frames{f': {self.reason}' if self.reached else ''}"
        )
