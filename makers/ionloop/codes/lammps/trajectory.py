"""What came of a trajectory, from its files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ionloop.codes.common.trajectory import Trajectory, TrajectoryTask
from ionloop.codes.lammps.restart import (
    cause_of_end,
    legs,
    log_of,
    read_legs,
    seconds_of,
    started,
)
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.geometry.neighbours import measurable, neighbours
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array

STEP, _V, MAX_DEVI_F = 0, 1, 4  # columns of a deviation file: step, max_devi_v, max_devi_f


def read_trajectory(task: TrajectoryTask, settings: LammpsSettings, folder: Path) -> Trajectory:
    """Read the valid part of a trajectory.

    Parameters
    ----------
    task
        What was asked for.
    settings
        When a trajectory counts as exploded.
    folder
        Working folder of LAMMPS.
    """
    dumped, frames, deviations, thermometer = read_legs(task, settings, folder)
    n = _common_prefix(dumped, deviations[:, STEP], thermometer[:, 0])
    max_devi_f, max_devi_v = deviations[:n, MAX_DEVI_F], deviations[:n, _V]
    temperatures = thermometer[:n, 1]
    valid, fault = _valid_prefix(frames[:n], max_devi_f, max_devi_v, temperatures, task, settings)
    finished = valid == task.n_frames
    return Trajectory(
        task=task,
        frames=frames[:valid].snapped().of_group(task.group),
        steps=dumped[:valid],
        max_devi_f=max_devi_f[:valid],
        max_devi_v=max_devi_v[:valid],
        temperatures=temperatures[:valid],
        finished=finished,
        stop_reason="" if finished else fault or _stop_reason(task, settings, folder),
        seconds=seconds_of(task.name, folder),
    )


def _common_prefix(*steps: Array) -> int:
    shortest = min(len(column) for column in steps)
    agree = np.all([column[:shortest] == steps[0][:shortest] for column in steps], axis=0)
    return int(np.cumprod(agree).sum())


def _valid_prefix(
    frames: Frames,
    max_devi_f: Array,
    max_devi_v: Array,
    temperatures: Array,
    task: TrajectoryTask,
    settings: LammpsSettings,
) -> tuple[int, str]:
    """Return the number of frames before the first bad one, and what is bad about it."""
    hottest, distance = settings.hottest(task.temperature), settings.stop_distance
    steps = np.arange(len(temperatures)) * task.dump_every
    steady = temperatures - task.heat_at(steps, settings.thermostat_damping)
    coordinates = np.concatenate([frames.positions, frames.cells], axis=1)
    faults = [
        ("the model deviation is not finite", ~np.isfinite(max_devi_f + max_devi_v)),
        ("positions or cell are not finite", ~np.isfinite(coordinates).all(axis=(1, 2))),
        (
            f"max_devi_f exceeds {settings.stop_max_devi_f:g} eV/Å",
            ~(max_devi_f <= settings.stop_max_devi_f),
        ),
        (f"the temperature exceeds {hottest:g} K", ~(steady <= hottest)),
    ]
    firsts = [(_first(bad), fault) for fault, bad in faults]
    valid, fault = min(firsts, key=lambda first: first[0])
    collapsed = _first_collapsed(frames[:valid], distance)
    if collapsed < valid:
        valid, fault = collapsed, f"two atoms are closer than {distance:g} Å"
    return valid, f"{fault} at step {valid * task.dump_every}" if valid < len(frames) else ""


def _first(bad: Array) -> int:
    return int(np.argmax(bad)) if bad.any() else len(bad)


def _first_collapsed(frames: Frames, distance: float) -> int:
    """Return the first frame where two atoms, or an atom and its image, are closer than this."""
    # No packing is closer than fcc, and a neighbour search in a vanishing cell has no end.
    smallest = frames.n_atoms * distance**3 / np.sqrt(2)
    n_sound = _first(~measurable(frames) | (frames.volumes < smallest))
    for found in neighbours(frames[:n_sound], distance):
        close = found.distance < distance
        if close.any():
            return int(found.frames.start + found.frame[close].min())
    return n_sound


def _stop_reason(task: TrajectoryTask, settings: LammpsSettings, folder: Path) -> str:
    logs = [log_of(leg, folder) for leg in started(legs(task, settings), folder)]
    text = logs[-1].read_text() if logs else ""
    if halt := re.search(r"halt condition for fix-id hot met on step (\d+)", text):
        return f"the temperature exceeds {settings.hottest(task.temperature):g} K at step {halt[1]}"
    cause = cause_of_end(task.name, folder)
    return cause or f"frames are missing from {folder}; is its disk full?"
