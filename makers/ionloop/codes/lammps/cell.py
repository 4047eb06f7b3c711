"""Cells in the form that LAMMPS needs, lower triangular, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array

BOX_BOUNDS = "ITEM: BOX BOUNDS xy xz yz"


@dataclass(frozen=True, eq=False)
class RestrictedCell:
    """A cell in the form that LAMMPS needs (lower triangular, small tilts), and the way back.

    LAMMPS' vectors are ``x_lammps = x @ rotation`` and its cell is
    ``reduction @ cell @ rotation``: a rotation by QR decomposition (with a reflection if the cell
    is left-handed, which does not change any energy); then whole lattice vectors are subtracted
    until no tilt exceeds half an edge. The lattice, and so the crystal, stays the same.

    Parameters
    ----------
    cell
        LAMMPS' cell in Å, lower triangular, (3, 3).
    rotation
        Orthogonal matrix, (3, 3).
    reduction
        Integer matrix of determinant 1, (3, 3).
    """

    cell: Array
    rotation: Array
    reduction: Array

    @classmethod
    def of(cls, cell: Array) -> Self:
        """Restrict a cell whose rows are lattice vectors in Å, (3, 3)."""
        orthogonal, upper = np.linalg.qr(cell.T)
        signs = np.sign(np.diag(upper))
        reduced, reduction = upper.T * signs, np.eye(3)
        for row, column in ((1, 0), (2, 1), (2, 0)):
            times = np.rint(reduced[row, column] / reduced[column, column])
            reduced[row] -= times * reduced[column]
            reduction[row] -= times * reduction[column]
        return cls(reduced, orthogonal * signs, reduction)

    def vectors(self, vectors: Array) -> Array:
        """Rotate vectors (..., 3) into LAMMPS' frame."""
        rotated: Array = vectors @ self.rotation
        return rotated

    def vectors_back(self, vectors: Array) -> Array:
        """Rotate vectors (..., 3) from LAMMPS' frame back."""
        rotated: Array = vectors @ self.rotation.T
        return rotated

    def cells_back(self, cells: Array) -> Array:
        """Turn LAMMPS' cells (..., 3, 3) back into cells of the original shape and setting."""
        inverse = np.rint(np.linalg.inv(self.reduction))
        restored: Array = inverse @ cells @ self.rotation.T
        return restored


def data_file(start: Frames, type_map: Sequence[str]) -> str:
    """Return the LAMMPS data file of one frame.

    All types of the type map are declared with their masses, whether they occur or not, because
    the potential has them all. The box is always triclinic, so that every ensemble can use it.

    Parameters
    ----------
    start
        One frame; its atoms keep their order and may lie outside the cell.
    type_map
        Chemical symbols of the LAMMPS types 1, 2, ...

    Raises
    ------
    ValueError
        If an element of the frame is not in the type map.
    """
    from ase.data import atomic_masses, atomic_numbers

    _check_elements(start, type_map)
    restricted = RestrictedCell.of(start.cells[0])
    (a, b, c), (xy, xz, yz) = np.diag(restricted.cell), restricted.cell[(1, 2, 2), (0, 0, 1)]
    types = [type_map.index(symbol) + 1 for symbol in start.symbols]
    rows = zip(types, restricted.vectors(start.positions[0]), strict=True)
    lines = [
        f"{start.formula}\n",
        f"{start.n_atoms} atoms\n{len(type_map)} atom types\n",
        f"0 {a:.17g} xlo xhi\n0 {b:.17g} ylo yhi\n0 {c:.17g} zlo zhi",
        f"{xy:.17g} {xz:.17g} {yz:.17g} xy xz yz\n",
        "Masses\n",
        *(f"{i} {atomic_masses[atomic_numbers[s]]:.10g}" for i, s in enumerate(type_map, 1)),
        "\nAtoms # atomic\n",
        *(f"{i} {t} {x:.17g} {y:.17g} {z:.17g}" for i, (t, (x, y, z)) in enumerate(rows, 1)),
    ]
    return "\n".join(lines) + "\n"


def _check_elements(start: Frames, type_map: Sequence[str]) -> None:
    missing = sorted(set(start.symbols) - set(type_map))
    if missing:
        raise InputError(
            f"the potential was not trained on {', '.join(missing)} of {start.formula}; "
            f"its type map is {' '.join(type_map)}: add the missing elements to the training data"
        )
