"""Exploration: molecular dynamics with the ensemble, reduced to deviations and candidates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from math import prod
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, PositiveInt, model_validator

from ionloop.schemas.document import ByReference, Document, Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.selection import TrustWindow, Verdict
from ionloop.schemas.table import Table, join_tables
from ionloop.schemas.units import Femtoseconds, Force, Pressure, Seconds, Temperature

NonEmpty = Field(min_length=1)
Ensemble = Literal["nvt", "npt-iso", "npt-aniso", "npt-tri"]

LOST = "its job failed"
"""Reason of the end of a trajectory that gave no frame at all."""


MOST = 10_000
"""Most start structures of a condition, turns of a stage, cells of a supercell: against slips."""


def _check_cells(supercell: tuple[int, int, int]) -> tuple[int, int, int]:
    if prod(supercell) > MOST:
        raise ValueError(f"{supercell} repeats the cell more than {MOST} times")
    return supercell


Supercell = Annotated[tuple[PositiveInt, PositiveInt, PositiveInt], AfterValidator(_check_cells)]


class Stage(Model):
    """Conditions of one stage of the exploration.

    Every temperature is combined with every pressure and with `n_structures` start structures;
    the stage repeats until it converges or its `max_turns` are spent.
    """

    temperatures: Annotated[list[Temperature], NonEmpty]
    """in K"""
    pressures: Annotated[list[Pressure], NonEmpty] = Field([1.0])
    """in bar (NPT only)"""
    ensemble: Ensemble = "nvt"
    """NVT, or NPT with an isotropic, anisotropic or triclinic barostat"""
    steps: PositiveInt
    """MD steps of each trajectory"""
    timestep: Annotated[Femtoseconds, Field(gt=0)] = 2.0
    """time step in fs"""
    dump_every: PositiveInt = 10
    """steps between frames that are judged"""
    n_structures: PositiveInt = Field(1, le=MOST)
    """start structures per condition"""
    start: Literal["perturbed", "continued"] = "perturbed"
    """start from perturbed start structures, or each trajectory where it was in the turn before, at
    its last good frame"""
    supercell: Supercell = (1, 1, 1)
    """repetitions of the start structures along a, b and c"""
    skip: int | None = Field(None, ge=0)
    """first MD steps set aside as not yet equilibrated; none: a tenth of the steps; step 0 never
    counts"""
    max_turns: PositiveInt = Field(5, le=MOST)
    """turns before the next stage begins anyway"""
    trust: TrustWindow | None = None
    """window of this stage, if not the run's"""
    max_labels: PositiveInt | None = None
    """labels per turn, if not the run's"""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.dump_every > self.steps:
            raise ValueError(f"dump_every ({self.dump_every}) exceeds steps ({self.steps})")
        if self.warm_up > self.steps // self.dump_every * self.dump_every:
            raise ValueError(
                f"skip ({self.skip}) leaves nothing of steps ({self.steps}), of which every "
                f"{self.dump_every}th is kept"
            )
        return self

    @property
    def warm_up(self) -> int:
        """MD steps before the first that counts: `skip`, or a tenth of the steps, 1 at least."""
        return max(1, self.steps // 10 if self.skip is None else self.skip)

    @property
    def n_counted(self) -> int:
        """Frames of a finished trajectory that count: those after the warm-up."""
        return self.steps // self.dump_every - -(-self.warm_up // self.dump_every) + 1

    @property
    def frame_steps(self) -> Array:
        """MD steps of the frames that every trajectory is asked for, (f,)."""
        return np.arange(0, self.steps + 1, self.dump_every)

    @property
    def conditions(self) -> list[tuple[float, float]]:
        """Temperature (K) and pressure (bar) of every condition."""
        return [(t, p) for t in self.temperatures for p in self.pressures]

    @property
    def idle_pressures(self) -> str | None:
        """A sentence if several pressures would repeat one condition, else None.

        It is no error of the stage itself, because an earlier version stored such stages.
        """
        if self.ensemble != "nvt" or len(self.pressures) == 1:
            return None
        return (
            f"{len(self.pressures)} pressures, but NVT has none: every trajectory would run as "
            "often; name one, or an NPT ensemble"
        )


class TrajectoryDoc(Model):
    """One trajectory: what it was to do and how far it came."""

    index: int
    """number within the exploration"""
    temperature: Temperature
    pressure: Pressure
    seed: int
    composition: str = ""
    """formula of the cell"""
    start_id: str
    """id of the start frame"""
    steps_asked: int
    steps_done: int
    n_frames: int
    """valid frames"""
    finished: bool
    stop_reason: str = ""
    """a sentence, if it stopped early"""
    last_good: int | None = None
    """MD step of the last frame that counts and is not failed, if any"""
    seconds: Seconds = 0.0

    @property
    def ending(self) -> str:
        """Why it stopped early, without the step, so that equal reasons have equal words."""
        return re.sub(r" at step \d+$", "", self.stop_reason)


class Unfinished(Model):
    """Trajectories at one temperature, of one composition, that stopped early for one reason."""

    temperature: Temperature
    composition: str
    reason: str
    n_trajectories: int

    @property
    def description(self) -> str:
        """A description, as a part of a sentence."""
        of = f" ({self.composition})" if self.composition else ""
        return f"{self.n_trajectories} at {self.temperature:g} K{of}: {self.reason}"


class DeviationSummary(Model):
    """Quantiles of the maximum force deviation at one temperature."""

    temperature: Temperature
    n_frames: int
    q10: Force
    q50: Force
    q90: Force


class ExplorationPart(Document):
    """Result of one batch of trajectories: all deviations, and the frames that may be picked.

    `deviations` has one row per frame: trajectory, step, temperature (K, the thermostat's),
    pressure (bar), composition, max_devi_f (eV/Å), max_devi_v (eV/atom), min_distance_ratio,
    verdict, reason, frame (index into `candidates` as one long list; -1 where the frame was not
    stored).
    """

    trajectories: list[TrajectoryDoc]
    deviations: Table
    candidates: list[Frames]
    """frames that may be picked"""
    final_frames: list[Frames]
    """last good frame of every trajectory that has one"""
    core_seconds: Seconds = 0.0


def renumbered(tables: Iterable[Table], n_candidates: Iterable[int]) -> Iterator[Table]:
    """Yield tables of deviations with a new `frame`, which counts through the candidates of all.

    Parameters
    ----------
    tables
        The tables; in each, `frame` counts through the candidates of this table alone.
    n_candidates
        Number of candidates of each.
    """
    for table, offset in zip(tables, accumulate(n_candidates, initial=0), strict=False):
        frame = table["frame"]
        yield table.with_columns(frame=np.where(frame < 0, -1, frame + offset))


class ExplorationDoc(Document):
    """All trajectories of one turn; deviations and candidates stay with the parts."""

    stage: Stage
    trust: TrustWindow
    trajectories: list[TrajectoryDoc]
    summary: list[DeviationSummary]
    parts: list[ByReference]
    """ExplorationPart of every batch, by reference"""
    failures: list[str] = Field([])
    """a sentence per loss"""
    core_seconds: Seconds = 0.0

    @property
    def candidates(self) -> list[Frames]:
        """Frames that may be picked, over all parts; needs the parts loaded."""
        return [frames for part in self.parts for frames in part.candidates]

    @property
    def n_finished(self) -> int:
        """Number of trajectories that reached their last step."""
        return sum(trajectory.finished for trajectory in self.trajectories)

    @property
    def n_lost(self) -> int:
        """Number of trajectories without any result."""
        return sum(trajectory.ending == LOST for trajectory in self.trajectories)

    @property
    def unfinished(self) -> list[Unfinished]:
        """Trajectories that stopped early, by temperature, composition and reason."""
        found = Counter(
            (each.temperature, each.composition, each.ending)
            for each in self.trajectories
            if not each.finished
        )
        return [
            Unfinished(temperature=t, composition=c, reason=reason, n_trajectories=n)
            for (t, c, reason), n in sorted(found.items())
        ]

    @property
    def last_good_frames(self) -> Mapping[int, Frames]:
        """Last good frame of every trajectory that has one, by index; needs the parts loaded."""
        return {
            trajectory.index: frame
            for part in self.parts
            for trajectory, frame in zip(
                [t for t in part.trajectories if t.last_good is not None],
                part.final_frames,
                strict=False,  # documents from before `last_good` name no good frame
            )
        }

    @property
    def deviations(self) -> Table:
        """One row per frame that was asked for, by trajectory and step.

        `frame` counts through `candidates`. Frames that never came are failed, their reason is why
        the trajectory ended.
        """
        sizes = [sum(map(len, part.candidates)) for part in self.parts]
        tables = renumbered([part.deviations for part in self.parts], sizes)
        missing = [self._missing(each) for each in self.trajectories if not each.finished]
        rows = join_tables([*tables, *missing])
        return rows.where(np.lexsort((rows["step"], rows["trajectory"]))) if len(rows) else rows

    def _missing(self, trajectory: TrajectoryDoc) -> Table:
        """Return a row for every frame that was asked of a trajectory and is missing."""
        steps = self.stage.frame_steps[trajectory.n_frames :]
        n = len(steps)
        skipped = steps < self.stage.warm_up
        return Table(
            {
                "trajectory": np.full(n, trajectory.index),
                "step": steps,
                "temperature": np.full(n, float(trajectory.temperature)),
                "pressure": np.full(n, float(trajectory.pressure)),
                "composition": np.full(n, trajectory.composition),
                "max_devi_f": np.full(n, np.nan),
                "max_devi_v": np.full(n, np.nan),
                "min_distance_ratio": np.full(n, np.nan),
                "verdict": np.where(skipped, Verdict.SKIPPED.value, Verdict.FAILED.value),
                "reason": np.full(n, f"never came: {trajectory.ending}"),
                "frame": np.full(n, -1),
            }
        )
