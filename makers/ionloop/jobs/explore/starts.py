"""Where trajectories start: perturbed structures, or the last good frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ionloop.codes.common.trajectory import Trajectory, TrajectoryTask
from ionloop.geometry.periodic import supercell
from ionloop.geometry.perturb import perturb
from ionloop.schemas.document import Model
from ionloop.schemas.exploration import LOST, Stage, TrajectoryDoc
from ionloop.schemas.frames import Frames
from ionloop.schemas.units import Length, Temperature
from ionloop.selection.plausible import BOLTZMANN

STIFFNESS = 20.0
"""Force constant of an atom in eV/Å² that few atoms exceed; 8 was measured in LGPS, 2 in AgI."""


BOND = 2.5
"""Length in Å on which a strain moves neighbours apart."""


class Perturbation(Model):
    """How the start structures of the trajectories are disturbed."""

    displacement: Annotated[Length, Field(ge=0)] = 0.1
    """largest displacement of an atom in Å"""
    strain: float = Field(0.0, ge=0, le=0.3)
    """largest relative strain of the cell"""

    @property
    def heat(self) -> Temperature:
        """What a disturbance may add to the temperature in K, when all of it becomes motion.

        An upper estimate for harmonic atoms, ``STIFFNESS * <x²> / k_B``, where ``<x²>`` is the
        mean square of a component of `displacement`, uniform in a ball, and of what `strain`,
        uniform too, makes of a bond.
        """
        mean_square = self.displacement**2 / 5 + (self.strain * BOND) ** 2 / 3
        return STIFFNESS * mean_square / BOLTZMANN


def trajectory_tasks(
    stage: Stage,
    structures: Sequence[Frames],
    perturbation: Perturbation,
    seed: int,
    left_off: Mapping[int, Frames] = MappingProxyType({}),
) -> list[TrajectoryTask]:
    """Set up every condition of a stage with every start structure.

    Parameters
    ----------
    stage
        The conditions.
    structures
        Single frames. Each is used `stage.n_structures` times per condition, disturbed anew.
    perturbation
        Size of the disturbance.
    seed
        Seed of disturbances and velocities.
    left_off
        Single frames to continue from, by the index of the trajectory: equal stages and structures
        give the trajectory of that index the same condition and start structure. Those that are
        not named start from a structure disturbed anew.
    """
    cells = [supercell(structure, stage.supercell) for structure in structures]
    size = (perturbation.displacement, perturbation.strain)
    repeats = range(stage.n_structures)
    runs = [
        (n, *where) for where, n, _ in product(stage.conditions, range(len(structures)), repeats)
    ]
    seeds = np.random.default_rng(seed).integers(1, 2**31 - 1, size=len(runs)).tolist()
    shared = stage.model_dump(include={"ensemble", "steps", "timestep", "dump_every"})
    return [
        TrajectoryTask(
            index=index,
            start=left_off[index]
            if index in left_off
            else perturb(cells[number], 1, *size, run_seed),
            structure=number,
            heat=0.0 if index in left_off else perturbation.heat,
            temperature=temperature,
            pressure=pressure,
            driver=seeds[0] + index,  # in turn, and with another beginning in every turn
            seed=run_seed,
            **shared,
        )
        for index, ((number, temperature, pressure), run_seed) in enumerate(
            zip(runs, seeds, strict=True)
        )
    ]


def cooled(trajectory: Trajectory, damping: float) -> Trajectory:
    """Return a trajectory without what the perturbation of its start added to the temperature.

    Parameters
    ----------
    trajectory
        The trajectory.
    damping
        Relaxation time of the thermostat in fs.
    """
    heat = trajectory.task.heat_at(trajectory.steps, damping)
    return replace(trajectory, temperatures=trajectory.temperatures - heat)


def planned(task: TrajectoryTask) -> TrajectoryDoc:
    """Describe a trajectory before it has run."""
    start = {"composition": task.start.formula, "seed": task.seed, "start_id": task.start.ids[0]}
    return not_run(task.index, (task.temperature, task.pressure), task.steps, **start)


def not_run(index: int, condition: tuple[float, float], steps: int, **start: Any) -> TrajectoryDoc:
    """Describe a trajectory of which nothing came back.

    Parameters
    ----------
    index
        Its number within the exploration.
    condition
        Temperature in K and pressure in bar.
    steps
        MD steps that were asked for.
    **start
        Composition, seed and id of its start; jobs of version 0.1 do not tell them.
    """
    temperature, pressure = condition
    return TrajectoryDoc(
        index=index,
        temperature=temperature,
        pressure=pressure,
        steps_asked=steps,
        steps_done=0,
        n_frames=0,
        finished=False,
        stop_reason=LOST,
        **({"seed": 0, "start_id": ""} | start),
    )
