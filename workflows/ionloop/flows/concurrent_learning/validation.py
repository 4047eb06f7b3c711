"""Validation: frames that nothing was trained on judge the potential."""

from __future__ import annotations

from math import ceil
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, model_validator

from ionloop.schemas.document import Model
from ionloop.schemas.exploration import MOST, Ensemble, ExplorationDoc, Stage, Supercell
from ionloop.schemas.label import Labels
from ionloop.schemas.potential import EvaluationDoc
from ionloop.schemas.run import ValidationDoc
from ionloop.schemas.selection import SelectionDoc
from ionloop.schemas.units import Femtoseconds, Pressure, Temperature

CONDITIONS = ("ensemble", "pressures", "supercell", "timestep")
"""What the validation MD takes from the last stage."""


class Validation(Model):
    """Frames that judge the production potential: never trained on, picked at random.

    Its molecular dynamics has the conditions of the last stage, unless told otherwise here.
    """

    temperatures: list[Temperature] = Field([])
    """temperatures in K of the validation MD; empty: no validation"""
    n_frames: PositiveInt = 30
    """frames labelled for it, over all trajectories"""
    steps: PositiveInt = 1000
    """MD steps of each validation trajectory, of which the first fifth is set aside"""
    n_structures: PositiveInt = Field(4, le=MOST)
    """trajectories per temperature, pressure and start structure"""
    spacing: Femtoseconds = Field(200.0, gt=0)
    """smallest time between frames of one trajectory, so that each counts as one of its own"""
    timestep: float | None = Field(None, gt=0)
    """time step in fs; none: that of the last stage"""
    ensemble: Ensemble | None = None
    """NVT or NPT; none: that of the last stage"""
    pressures: Annotated[list[Pressure], Field(min_length=1)] | None = None
    """in bar (NPT only); none: those of the last stage"""
    supercell: Supercell | None = None
    """repetitions of the start structures; none: those of the last stage"""

    @model_validator(mode="after")
    def _check_pressures(self) -> Self:
        if self.pressures and self.ensemble == "nvt":
            raise ValueError("pressures are for NPT, and ensemble is nvt: leave them out")
        return self

    @property
    def n_labels(self) -> int:
        """Labels that the validation asks for."""
        return self.n_frames if self.temperatures else 0

    def conditions(self, last: Stage) -> dict[str, Any]:
        """Return ensemble, pressures, supercell and timestep of the validation MD.

        Parameters
        ----------
        last
            The last stage of the run, whose conditions hold where no others are given.
        """
        given = {key: getattr(self, key) or getattr(last, key) for key in CONDITIONS}
        # NVT after stages of NPT does not have their pressures.
        no_pressures = given["ensemble"] == "nvt" and not self.pressures
        return given | {"pressures": [1.0]} if no_pressures else given

    def stage(self, last: Stage) -> Stage:
        """Return the validation MD as a stage of exploration.

        Parameters
        ----------
        last
            The last stage of the run.
        """
        given = self.conditions(last)
        apart = ceil(self.spacing / given["timestep"])
        return Stage(
            temperatures=self.temperatures,
            steps=self.steps,
            n_structures=self.n_structures,
            dump_every=min(apart, self.steps),
            skip=self.steps // 5,
            max_labels=self.n_frames,
            **given,
        )

    def idle_pressures(self, last: Stage) -> str | None:
        """Return `Stage.idle_pressures` of the validation MD."""
        return last.model_copy(update=self.conditions(last)).idle_pressures

    def n_given(self, last: Stage, n_starts: int) -> int:
        """Return how many frames the validation MD gives at most.

        Parameters
        ----------
        last
            The last stage of the run.
        n_starts
            Number of start structures.
        """
        stage = self.stage(last)
        if stage.dump_every * stage.timestep < self.spacing:
            return 0
        return stage.n_counted * len(stage.conditions) * stage.n_structures * n_starts

    def lack(self, last: Stage, n_starts: int) -> str | None:
        """Say why the validation MD cannot give the frames that are asked for; None if it can.

        Parameters
        ----------
        last
            The last stage of the run.
        n_starts
            Number of start structures.
        """
        given = self.n_given(last, n_starts) if self.temperatures else 0
        if given >= self.n_labels:
            return None
        return (
            f"{self.n_frames} frames are asked for, and the validation MD gives {given}: frames of "
            f"one trajectory lie {self.spacing:g} fs apart, and {self.steps} steps are "
            f"{self.steps * self.stage(last).timestep:g} fs, of which a fifth is set aside"
        )


def of_validation(validation: ValidationDoc | None, n_asked: int) -> list[str]:
    """Return what readers of the validation's errors must know.

    Parameters
    ----------
    validation
        What came of it, if anything.
    n_asked
        Frames that were asked for.
    """
    if validation is None:
        return [f"validation: none of {n_asked} frames was labelled, nothing judges the potential"]
    notes = []
    if validation.n_unfinished:
        notes.append(
            f"{validation.n_unfinished} of {validation.n_trajectories} trajectories stopped early, "
            "and the errors are of frames before that"
        )
    if validation.n_accepted < n_asked:
        notes.append(f"the errors are of {validation.n_accepted} frames, {n_asked} were asked for")
    return [f"validation: {note}" for note in notes]


def validate(
    selection: SelectionDoc,
    labels: Labels,
    evaluation: EvaluationDoc,
    exploration: ExplorationDoc | None = None,
    teacher: EvaluationDoc | None = None,
) -> ValidationDoc | None:
    """Describe the validation; None if no label came back.

    A run delivers its models, not their mean: so the errors are those of the worst model.

    Parameters
    ----------
    selection, labels, evaluation, exploration
        What the steps of the validation gave.
    teacher
        The teacher of the potential compared with the same labels, if it has one.
    """
    if evaluation.errors is None:
        return None
    models = evaluation.model_errors
    return ValidationDoc(
        errors=max(models or [evaluation.errors], key=lambda each: each.force_mev_per_angstrom),
        models=models,
        teacher=teacher.errors if teacher else None,
        stage=exploration.stage if exploration else None,
        n_trajectories=len(exploration.trajectories) if exploration else None,
        n_unfinished=sum(not t.finished for t in exploration.trajectories) if exploration else 0,
        temperatures=sorted({pick.temperature for pick in selection.picks}),
        n_requested=labels.n_requested,
        n_accepted=labels.n_accepted,
        core_seconds=labels.core_seconds + (exploration.core_seconds if exploration else 0.0),
    )
