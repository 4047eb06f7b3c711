"""Molecular dynamics with an ensemble: settings that every program has, and the valid part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field, PositiveInt

from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.geometry.neighbours import finite, measurable, neighbours
from ionloop.schemas.document import Model
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.potential import StoredFile
from ionloop.schemas.units import Femtoseconds, Force, Length


class MdSettings(Model):
    """Thermostat, barostat, restart files, and when a trajectory has exploded."""

    thermostat_damping: Femtoseconds = Field(100.0, gt=0)
    """relaxation time of the Langevin thermostat in fs"""
    barostat_damping: Femtoseconds = Field(500.0, gt=0)
    """relaxation time of the barostat in fs"""
    stop_max_devi_f: Force = Field(10.0, gt=0)
    """max_devi_f in eV/Å above which a trajectory has exploded"""
    stop_temperature_factor: float = Field(5.0, gt=1)
    """a trajectory this many times hotter than its target has exploded, without what is left of the
    heat of its start's perturbation"""
    stop_distance: Length = Field(0.5, gt=0)
    """distance in Å below which two atoms have collapsed"""
    restart_every: PositiveInt = 10_000
    """steps between restart files, from which a trajectory goes on after its worker was lost; a
    shorter one is begun anew"""

    def hottest(self, temperature: float) -> float:
        """Return the temperature in K above which a trajectory at `temperature` has exploded.

        What is left of the perturbation's own heat (`TrajectoryTask.heat_at`) comes on top.
        """
        return self.stop_temperature_factor * temperature

    def leg_steps(self, dump_every: int) -> int:
        """Return the steps of a leg, which ends where a frame is kept: `restart_every` or more."""
        return -(-self.restart_every // dump_every) * dump_every


def check_trajectories(tasks: Sequence[TrajectoryTask], models: Sequence[StoredFile]) -> None:
    """Check that an ensemble can run trajectories.

    Parameters
    ----------
    tasks
        The trajectories.
    models
        Model files of the ensemble.

    Raises
    ------
    InputError
        If there are fewer than two models, indices repeat, or a start is not one frame.
    """
    if len(models) < 2:
        raise InputError(f"a model deviation needs two models or more, got {len(models)}")
    if len({task.index for task in tasks}) < len(tasks):
        raise InputError("two trajectories have the same index, which names their files")
    for task in tasks:
        if len(task.start) != 1:
            raise InputError(f"trajectory {task.index} starts from {len(task.start)} frames, not 1")


def valid_prefix(
    frames: Frames,
    max_devi_f: Array,
    max_devi_v: Array,
    temperatures: Array,
    task: TrajectoryTask,
    settings: MdSettings,
) -> tuple[int, str]:
    """Return the number of frames before the first bad one, and what is bad about it.

    Parameters
    ----------
    frames
        The f first frames of a trajectory.
    max_devi_f, max_devi_v, temperatures
        Their deviations in eV/Å and eV/atom and temperatures in K, (f,).
    task
        What was asked for.
    settings
        When a trajectory has exploded.
    """
    hottest, distance = settings.hottest(task.temperature), settings.stop_distance
    steps = np.arange(len(temperatures)) * task.dump_every
    steady = temperatures - task.heat_at(steps, settings.thermostat_damping)
    largest = settings.stop_max_devi_f
    faults = [
        ("the model deviation is not finite", ~np.isfinite(max_devi_f + max_devi_v)),
        ("positions or cell are not finite", ~finite(frames)),
        (f"max_devi_f exceeds {largest:g} eV/Å", ~(max_devi_f <= largest)),
        (f"the temperature exceeds {hottest:g} K", ~(steady <= hottest)),
    ]
    firsts = [(_first(bad), fault) for fault, bad in faults]
    valid, fault = min(firsts, key=lambda first: first[0])
    collapsed = first_collapsed(frames[:valid], distance)
    if collapsed < valid:
        valid, fault = collapsed, f"two atoms are closer than {distance:g} Å"
    return valid, f"{fault} at step {valid * task.dump_every}" if valid < len(frames) else ""


def first_collapsed(frames: Frames, distance: float) -> int:
    """Return the first frame where two atoms, or an atom and its image, are closer than this.

    Parameters
    ----------
    frames
        Frames with finite positions and cells.
    distance
        Distance in Å.
    """
    # No packing is closer than fcc, and a neighbour search in a vanishing cell has no end.
    smallest = frames.n_atoms * distance**3 / np.sqrt(2)
    n_sound = _first(~measurable(frames) | (frames.volumes < smallest))
    for found in neighbours(frames[:n_sound], distance):
        close = found.distance < distance
        if close.any():
            return int(found.frames.start + found.frame[close].min())
    return n_sound


def _first(bad: Array) -> int:
    return int(np.argmax(bad)) if bad.any() else len(bad)
