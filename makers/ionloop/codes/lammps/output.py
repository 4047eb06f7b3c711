"""What LAMMPS writes: trajectories, from their dumps and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ionloop.codes.common.md import valid_prefix
from ionloop.codes.common.trajectory import Trajectory, TrajectoryTask
from ionloop.codes.lammps import restart
from ionloop.codes.lammps.cell import BOX_BOUNDS, RestrictedCell
from ionloop.codes.lammps.restart import Leg, whole_lines
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.schemas.frames import Frames, concatenate
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
    dumped, frames, deviations, thermometer = _read_legs(task, settings, folder)
    n = _common_prefix(dumped, deviations[:, STEP], thermometer[:, 0])
    max_devi_f, max_devi_v = deviations[:n, MAX_DEVI_F], deviations[:n, _V]
    temperatures = thermometer[:n, 1]
    valid, fault = valid_prefix(frames[:n], max_devi_f, max_devi_v, temperatures, task, settings)
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
        seconds=restart.seconds_of(task.name, folder),
    )


def _common_prefix(*steps: Array) -> int:
    shortest = min(len(column) for column in steps)
    agree = np.all([column[:shortest] == steps[0][:shortest] for column in steps], axis=0)
    return int(np.cumprod(agree).sum())


def _stop_reason(task: TrajectoryTask, settings: LammpsSettings, folder: Path) -> str:
    begun = restart.started(restart.legs(task, settings), folder)
    logs = [restart.log_of(leg, folder) for leg in begun]
    text = logs[-1].read_text() if logs else ""
    if halt := re.search(r"halt condition for fix-id hot met on step (\d+)", text):
        return f"the temperature exceeds {settings.hottest(task.temperature):g} K at step {halt[1]}"
    cause = restart.end_mark(task.name, folder).read_text().strip()
    return cause or f"frames are missing from {folder}; is its disk full?"


def _read_legs(
    task: TrajectoryTask, settings: LammpsSettings, folder: Path
) -> tuple[Array, Frames, Array, Array]:
    """Read a trajectory as far as it was written, every step once.

    Returns
    -------
    tuple
        Steps of the dump (f,) and its frames; rows of the deviation file (d, 7); rows of step and
        temperature in K (t, 2).
    """
    parts = [_read_leg(leg, task, folder) for leg in restart.legs(task, settings)]
    steps, frames, deviations, thermometer = zip(*parts, strict=True)
    (joined,) = concatenate(frames) or [frames[0]]
    return np.concatenate(steps), joined, np.concatenate(deviations), np.concatenate(thermometer)


def _read_leg(leg: Leg, task: TrajectoryTask, folder: Path) -> tuple[Array, Frames, Array, Array]:
    steps, frames = read_dump(folder / f"{leg.name}.dump", task.start)
    deviations = read_rows(folder / f"{leg.name}.deviation", n_columns=7)
    thermometer = read_rows(folder / f"{leg.name}.temperature", n_columns=2)
    # A leg begins with the frame that the one before it ended with.
    new = leg.first if leg.number else -1
    return (
        steps[steps > new],
        frames[steps > new],
        deviations[deviations[:, 0] > new],
        thermometer[thermometer[:, 0] > new],
    )


def read_rows(path: Path, n_columns: int) -> Array:
    """Read a table of numbers as far as it was written.

    Comments are passed over, and an unfinished last line, of a program that was ended, is not
    read.

    Parameters
    ----------
    path
        The file; one that does not exist has no rows.
    n_columns
        Numbers per row.

    Returns
    -------
    Array
        (rows, n_columns)
    """
    rows = [line.split() for line in whole_lines(path) if not line.startswith("#")]
    return np.array(rows, dtype=float).reshape(-1, n_columns)


def read_dump(path: Path, start: Frames) -> tuple[Array, Frames]:
    """Read the frames of a dump of ``id xu yu zu``, sorted by id, as far as they are whole.

    Parameters
    ----------
    path
        The file; one that does not exist has no frames.
    start
        The frame that the trajectory began with: it gives symbols and orientation.

    Returns
    -------
    tuple[Array, Frames]
        Steps (f,) and frames in the start's orientation and lattice setting, unwrapped. An
        unfinished frame, or one that lost atoms, and all that follow are left out.
    """
    blocks = list(_blocks(path, start.n_atoms))
    steps = np.array([step for step, _, _ in blocks], dtype=int)
    cells = np.array([cell for _, cell, _ in blocks]).reshape(-1, 3, 3)
    positions = np.array([atoms for _, _, atoms in blocks]).reshape(-1, start.n_atoms, 3)
    restricted = RestrictedCell.of(start.cells[0])
    frames = Frames(start.symbols, restricted.vectors_back(positions), restricted.cells_back(cells))
    return steps, frames


def _blocks(path: Path, n_atoms: int) -> Iterator[tuple[int, Array, Array]]:
    lines = iter(whole_lines(path))
    while block := list(islice(lines, n_atoms + 9)):
        if len(block) < n_atoms + 9 or int(block[3]) != n_atoms:
            return
        if not block[4].startswith(BOX_BOUNDS):
            raise ValueError(f"{path} is not a dump of a triclinic box: it says {block[4]!r}")
        atoms = np.array([line.split() for line in block[9:]], dtype=float)
        yield int(block[1]), _box_to_cell(block[5:8]), atoms[:, 1:]


def _box_to_cell(lines: Sequence[str]) -> Array:
    # https://docs.lammps.org/Howto_triclinic.html: the dump gives the bounding box and the tilts.
    (xlo, xhi, xy), (ylo, yhi, xz), (zlo, zhi, yz) = np.array(
        [line.split() for line in lines], dtype=float
    )
    tilts = (0.0, xy, xz, xy + xz)
    a = (xhi - max(tilts)) - (xlo - min(tilts))
    b = (yhi - max(0.0, yz)) - (ylo - min(0.0, yz))
    return np.array([[a, 0.0, 0.0], [xy, b, 0.0], [xz, yz, zhi - zlo]])
