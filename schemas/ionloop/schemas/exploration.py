"""Exploration: molecular dynamics with the ensemble, reduced to deviations and candidates."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from ionloop.schemas.document import ByReference, Document, Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.selection import TrustWindow
from ionloop.schemas.table import Table, join_tables
from ionloop.schemas.units import Femtoseconds, Force, Pressure, Seconds, Temperature

NonEmpty = Field(min_length=1)


class Stage(Model):
    """Conditions of one stage of the exploration.

    Every temperature is combined with every pressure and with `n_structures` start structures;
    the stage repeats until it converges or its `max_turns` are spent.
    """

    temperatures: Annotated[list[Temperature], NonEmpty] = Field(description="in K")
    pressures: Annotated[list[Pressure], NonEmpty] = Field([1.0], description="in bar (NPT only)")
    ensemble: Literal["nvt", "npt-iso", "npt-aniso", "npt-tri"] = Field(
        "nvt", description="NVT, or NPT with an isotropic, anisotropic or triclinic barostat"
    )
    steps: PositiveInt = Field(description="MD steps of each trajectory")
    timestep: Annotated[Femtoseconds, Field(gt=0)] = Field(2.0, description="time step in fs")
    dump_every: PositiveInt = Field(10, description="steps between frames that are judged")
    n_structures: PositiveInt = Field(1, description="start structures per condition")
    start: Literal["perturbed", "continued"] = Field(
        "perturbed",
        description="start from perturbed start structures, or from the last turn's final frames",
    )
    supercell: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (1, 1, 1), description="repetitions of the start structures along a, b and c"
    )
    skip: int = Field(0, ge=0, description="first MD steps set aside as not yet equilibrated")
    max_turns: PositiveInt = Field(5, description="turns before the next stage begins anyway")
    trust: TrustWindow | None = Field(None, description="window of this stage, if not the run's")
    max_labels: PositiveInt | None = Field(None, description="labels per turn, if not the run's")

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.dump_every > self.steps:
            raise ValueError(f"dump_every ({self.dump_every}) exceeds steps ({self.steps})")
        if self.skip >= self.steps:
            raise ValueError(f"skip ({self.skip}) leaves nothing of steps ({self.steps})")
        return self

    @property
    def conditions(self) -> list[tuple[float, float]]:
        """Temperature (K) and pressure (bar) of every condition."""
        return [(t, p) for t in self.temperatures for p in self.pressures]


class TrajectoryDoc(Model):
    """One trajectory: what it was to do and how far it came."""

    index: int = Field(description="number within the exploration")
    temperature: Temperature
    pressure: Pressure
    seed: int
    start_id: str = Field(description="id of the start frame")
    steps_asked: int
    steps_done: int
    n_frames: int = Field(description="valid frames")
    finished: bool
    stop_reason: str = Field("", description="a sentence, if it stopped early")
    seconds: Seconds = 0.0


class DeviationSummary(Model):
    """Quantiles of the maximum force deviation at one temperature."""

    temperature: Temperature
    n_frames: int
    q10: Force
    q50: Force
    q90: Force


class ExplorationPart(Document):
    """What one batch of trajectories sends back: all deviations, and frames that may be picked.

    `deviations` has one row per frame: trajectory, step, temperature (K, the thermostat's),
    pressure (bar), max_devi_f (eV/Å), max_devi_v (eV), min_distance_ratio, verdict, reason, frame
    (index into `candidates` as one long list; -1 where the frame stayed behind).
    """

    trajectories: list[TrajectoryDoc]
    deviations: Table
    candidates: list[Frames] = Field(description="frames that may be picked")
    final_frames: list[Frames] = Field(
        description="last valid frame of every trajectory that has one"
    )
    core_seconds: Seconds = 0.0


class ExplorationDoc(Document):
    """All trajectories of one turn; deviations and candidates stay with the parts."""

    stage: Stage
    trust: TrustWindow
    trajectories: list[TrajectoryDoc]
    summary: list[DeviationSummary]
    parts: list[ByReference] = Field(description="ExplorationPart of every batch, by reference")
    failures: list[str] = Field(default_factory=list, description="a sentence per loss")
    core_seconds: Seconds = 0.0

    @property
    def candidates(self) -> list[Frames]:
        """Frames that may be picked, over all parts; needs the parts loaded."""
        return [frames for part in self.parts for frames in part.candidates]

    @property
    def final_frames(self) -> list[Frames]:
        """Last valid frame of every trajectory that has one, in order; needs the parts loaded."""
        finals = {
            trajectory.index: frame
            for part in self.parts
            for trajectory, frame in zip(
                [t for t in part.trajectories if t.n_frames], part.final_frames, strict=True
            )
        }
        return [finals[index] for index in sorted(finals)]

    @property
    def deviations(self) -> Table:
        """Deviations over all parts, `frame` counting through `candidates`."""
        tables = []
        offset = 0
        for part in self.parts:
            frame = part.deviations["frame"]
            tables.append(
                part.deviations.with_columns(frame=np.where(frame < 0, -1, frame + offset))
            )
            offset += sum(len(frames) for frames in part.candidates)
        return join_tables(tables)
