"""Settings of a distillation, and how it ends: pure functions of how the rounds went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from ionloop.schemas.distillation import RoundDoc
from ionloop.schemas.document import Model
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import Stage
from ionloop.schemas.learning import Limit, learning
from ionloop.schemas.potential import Teacher


class Distillation(Model):
    """How the last ensemble teaches the potential at the end."""

    n_own: PositiveInt = 1000
    """frames of the teacher's own molecular dynamics that it labels first, picked at random"""
    n_frames: PositiveInt = 500
    """frames of the students' molecular dynamics that it labels in every round, picked at random"""
    max_rounds: PositiveInt = Field(3, le=100)
    """most rounds"""
    factor: PositiveFloat = 1.0
    """the rounds end when the students' force error against the teacher, on the frames of a round
    before they are trained on, is at most so many times the teacher's error on held-back labels"""
    label_weight: PositiveFloat = 5.0
    """how many times as often as one of the teacher's a label is drawn in the students' training"""
    n_models: int = Field(2, ge=2, le=100)
    """students of a round, whose deviation ends trajectories that explode"""
    stage: Stage | None = None
    """conditions of all of this molecular dynamics; none: those of the last stage, at the
    temperatures of all stages"""
    own_stage: Stage | None = None
    """conditions of the teacher's own molecular dynamics, which is slow and may be shorter; none:
    those of the students'"""

    @field_validator("stage", "own_stage")
    @classmethod
    def _check_pressures(cls, stage: Stage | None) -> Stage | None:
        if stage is not None and (idle := stage.idle_pressures):
            raise ValueError(f"pressures: {idle}")
        return stage

    def stage_of(self, stages: Sequence[Stage]) -> Stage:
        """Return the conditions of the molecular dynamics.

        Parameters
        ----------
        stages
            Stages of the run.

        Raises
        ------
        InputError
            If there are none, and no conditions either.
        """
        if self.stage is not None:
            return self.stage
        if not stages:
            raise InputError("a distillation needs conditions: give stages, or settings.stage")
        temperatures = sorted({t for stage in stages for t in stage.temperatures})
        return stages[-1].model_copy(update={"temperatures": temperatures, "trust": None})

    def own_stage_of(self, stages: Sequence[Stage]) -> Stage:
        """Return the conditions of the teacher's own molecular dynamics.

        Parameters
        ----------
        stages
            Stages of the run.
        """
        return self.own_stage or self.stage_of(stages)

    @property
    def most_frames(self) -> int:
        """Frames that the teacher labels at most."""
        return self.n_own + self.max_rounds * self.n_frames


class Verdict(NamedTuple):
    """Whether a distillation ends.

    Parameters
    ----------
    ends
        Whether no further round follows.
    reached
        Whether the students are good enough.
    reason
        Why, in a sentence.
    """

    ends: bool
    reached: bool
    reason: str


def target(teacher: Teacher, settings: Distillation) -> float | None:
    """Return the force error in meV/Å with which a student is good enough; None if not known.

    Parameters
    ----------
    teacher
        The teacher, with its errors on labels that were held back from it.
    settings
        The factor.
    """
    held = teacher.validation_errors
    return None if held is None else settings.factor * held.force_mev_per_angstrom


def judge(rounds: Sequence[RoundDoc], teacher: Teacher, settings: Distillation) -> Verdict:
    """Decide whether another round follows.

    Parameters
    ----------
    rounds
        The rounds so far.
    teacher
        The teacher.
    settings
        When it ends.
    """
    allowed, error = target(teacher, settings), rounds[-1].force_error
    last = len(rounds) >= settings.max_rounds
    if allowed is None:
        none = "no label was held back from the teacher, so that nothing says when to end"
        return Verdict(last, False, f"{none}; all {settings.max_rounds} rounds were done")
    if error is None:
        return Verdict(last, False, "the students' MD gave no sound frame to compare with")
    found = f"the students' force error against the teacher is {error:.0f} meV/Å"
    n_held = teacher.validation_errors.n_frames if teacher.validation_errors else 0
    whose = f"{settings.factor:g} times the teacher's own on {n_held} held-back labels"
    bound = f"the {allowed:.0f} meV/Å allowed ({whose})"
    if error <= allowed:
        return Verdict(True, True, f"{found}, within {bound}")
    return Verdict(last, False, f"{found}, {error / allowed:.2f} times {bound}{_limit(rounds[-1])}")


def _limit(last: RoundDoc) -> str:
    """Say what limits the students; new frames are held-back ones before they are trained on."""
    if last.train_errors is None or last.errors is None:
        return ""
    known = f"{last.train_errors.force_mev_per_angstrom:.0f} meV/Å on frames they were trained on"
    limit = learning([last.train_errors], [last.errors]).limit
    return f"; it is {known}{_HELPS[limit]}"


_HELPS = {
    Limit.TRAINING: ", so training limits it: more steps or a larger network help",
    Limit.DATA: ", so geometries limit it: more frames or rounds help",
    Limit.BOTH: ", so training and geometries both limit it",
    Limit.UNKNOWN: "",
}
