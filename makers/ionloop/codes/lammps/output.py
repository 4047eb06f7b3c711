"""What LAMMPS writes: tables of rows, dumps, trajectories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ionloop.codes.lammps.cell import BOX_BOUNDS, RestrictedCell
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array


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
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    rows = [line.split() for line in lines if not line.startswith("#")]
    return np.array(rows, dtype=float).reshape(-1, n_columns)


def read_last_row(path: Path) -> Array | None:
    """Read the last finished row of a growing table, or None if there is none yet."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1024))
        finished = file.read().decode().split("\n")[:-1]
    if not finished or finished[-1].startswith("#"):
        return None
    return np.array(finished[-1].split(), dtype=float)


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
    lines = iter(path.read_text().split("\n")[:-1] if path.exists() else [])
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
