"""K-points: one way to write them for every code, and the mesh that they mean in a cell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from math import gcd, prod
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, PositiveInt, ValidationError, WrapValidator
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array

DEFAULT_SPACING = 0.35
"""Largest distance of k-points in 1/Å where nothing else is said.

Of a gap of 2 eV, which solid electrolytes exceed, in the relation of Wisesa, McGill and Mueller,
Phys. Rev. B 93, 155109 (2016), eqs. 25 and 29, as pymatgen uses it for the Materials Project.
"""

COARSEST_SPACING = 0.5
"""VASP's own default of KSPACING in 1/Å (VASP wiki); with a wider spacing little is sampled."""

GRAIN = 0.01  # Å: a start cell is told to this
GAMMA = (1, 1, 1)

Mesh = tuple[PositiveInt, PositiveInt, PositiveInt]


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are no spacing")
    return value


Spacing = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_no_truth)]


class StartCell(Model):
    """A start cell and its mesh, which the cells that are made from it keep."""

    formula: str
    """composition, such as Ge2Li20P4S24"""
    cell: tuple[tuple[float, float, float], ...]
    """lattice vectors as rows, to 0.01 Å"""
    mesh: Mesh
    """k-points along each reciprocal vector"""

    @property
    def composition(self) -> Counter[str]:
        """Atoms by chemical symbol."""
        counts = re.findall(r"([A-Z][a-z]?)(\d+)", self.formula)
        return Counter({symbol: int(n) for symbol, n in counts})

    @property
    def description(self) -> str:
        """The cell and its mesh, such as ``Ge2Li20P4S24 3×3×2``."""
        return f"{self.formula} {times(self.mesh)}"


class Kept(Model):
    """The mesh that a spacing gives in the start cell, kept in all cells made from it."""

    kept: Spacing
    """largest distance of k-points in the start cell in 1/Å"""
    start_cells: list[StartCell] = Field([])
    """filled in by the run: its start cells"""

    def of_starts(self, structures: Sequence[Frames]) -> Self:
        """Return the same with the start cells of a run, each once, in one order.

        Parameters
        ----------
        structures
            Start structures.
        """
        cells = {
            (formula(part), _rounded(cell)): spaced_mesh(self.kept, cell)
            for part in structures
            for cell in part.cells
        }
        starts = [
            StartCell(formula=name, cell=cell, mesh=mesh)
            for (name, cell), mesh in sorted(cells.items())
        ]
        return self.model_copy(update={"start_cells": starts})


def _one_sentence(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        raise ValueError(
            f"expected a spacing in 1/Å such as {DEFAULT_SPACING}, a mesh such as [2, 2, 1], "
            f"gamma for Γ alone, or {{kept: {DEFAULT_SPACING}}} for the start cell's mesh, kept"
        ) from None


KPoints = Annotated[Literal["gamma"] | Mesh | Kept | Spacing, WrapValidator(_one_sentence)]
"""K-points, always with Γ: Γ alone, a mesh, the start cell's mesh, or a spacing (2π included)."""

MEANING = (
    "k-points, with Γ: the largest spacing in 1/Å (2π included, as VASP's KSPACING), from which "
    "the mesh of every cell follows; or a mesh for every cell, such as [2, 2, 1]; or gamma for Γ "
    "alone; or {kept: 0.35}: the mesh that this spacing gives in the start cell, kept in all "
    "cells made from it"
)


def mesh_of(kpoints: KPoints, frame: Frames) -> tuple[int, int, int]:
    """Return the k-points along each reciprocal vector of a frame.

    A supercell of a start cell whose mesh is kept takes that mesh divided by its repetitions,
    rounded up. A frame of none of the start cells' compositions takes the mesh of its own cell.

    Parameters
    ----------
    kpoints
        What the settings say.
    frame
        Frames of one.
    """
    if isinstance(kpoints, float | int):
        return spaced_mesh(kpoints, frame.cells[0])
    if not isinstance(kpoints, Kept):
        return GAMMA if kpoints == "gamma" else kpoints
    made_from = list(_made_from(kpoints.start_cells, frame))
    if not made_from:
        return spaced_mesh(kpoints.kept, frame.cells[0])
    _, start, repetitions = min(made_from, key=lambda each: each[0])
    a, b, c = (-(-n // times) for n, times in zip(start.mesh, repetitions, strict=True))
    return a, b, c


def explicit(kpoints: KPoints) -> tuple[int, int, int] | None:
    """Return the mesh that every cell takes, None where it follows from the cell."""
    if kpoints == "gamma":
        return GAMMA
    return kpoints if isinstance(kpoints, tuple) else None


def spaced_mesh(spacing: float, cell: Array) -> tuple[int, int, int]:
    """Return the mesh whose points are nowhere further apart than a spacing, as VASP rounds it.

    Parameters
    ----------
    spacing
        In 1/Å, 2π included.
    cell
        Lattice vectors as rows in Å, (3, 3).
    """
    # Round-off must not change the mesh of a vector that fits the spacing exactly.
    divisions = np.ceil(reciprocal_lengths(cell) / spacing - 1e-9)
    a, b, c = np.maximum(1, divisions).astype(int).tolist()
    return a, b, c


def reciprocal_lengths(cell: Array) -> Array:
    """Return the lengths of the reciprocal vectors in 1/Å, 2π included, (3,).

    Parameters
    ----------
    cell
        Lattice vectors as rows in Å, (3, 3).
    """
    lengths: Array = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell), axis=0)
    return lengths


def widest(mesh: Sequence[int], cell: Array) -> float:
    """Return the largest distance of neighbouring k-points of a mesh in 1/Å.

    Parameters
    ----------
    mesh
        k-points along each reciprocal vector, (3,).
    cell
        Lattice vectors as rows in Å, (3, 3).
    """
    return float(np.max(reciprocal_lengths(cell) / np.array(mesh)))


def n_points(kpoints: KPoints, n_atoms: int) -> int:
    """Estimate the number of k-points: each atom takes up 18 Å³ of a cubic cell, as in sulphides.

    Parameters
    ----------
    kpoints
        What the settings say.
    n_atoms
        Atoms of the cell.
    """
    mesh = explicit(kpoints)
    spacing = kpoints.kept if isinstance(kpoints, Kept) else kpoints
    if mesh is None and isinstance(spacing, float):
        mesh = spaced_mesh(spacing, (18.0 * max(n_atoms, 1)) ** (1 / 3) * np.eye(3))
    return prod(mesh or GAMMA)


def description(kpoints: KPoints) -> str | list[int]:
    """Return the k-points as the level of theory tells them."""
    mesh = explicit(kpoints)
    if mesh is not None:
        return list(mesh)
    if isinstance(kpoints, Kept):
        return f"of the start cell, spacing {kpoints.kept:g} 1/Å, kept"
    return f"spacing {kpoints:g} 1/Å"


def times(mesh: Sequence[int]) -> str:
    """Return a mesh in words, such as ``2×2×1``."""
    return "×".join(map(str, mesh))


def formula(frames: Frames) -> str:
    """Return the composition with the symbols sorted, such as ``Ge2Li20P4S24``."""
    return "".join(f"{symbol}{n}" for symbol, n in sorted(Counter(frames.symbols).items()))


def _rounded(cell: Array) -> tuple[tuple[float, float, float], ...]:
    # Adding zero turns -0.0 into 0.0, which JSON tells apart.
    return tuple(map(tuple, (np.round(cell / GRAIN) * GRAIN + 0.0).round(2).tolist()))


def _made_from(
    starts: Sequence[StartCell], frame: Frames
) -> Iterator[tuple[float, StartCell, tuple[int, int, int]]]:
    """Yield the strain, start cell and repetitions by which a frame's cell can have been made."""
    counts = Counter(frame.symbols)
    for start in starts:
        for repetitions in _factors(_multiple(counts, start.composition)):
            repeated = np.array(start.cell) * np.array(repetitions)[:, None]
            yield _strain(repeated, frame.cells[0]), start, repetitions


def _multiple(counts: Counter[str], unit: Counter[str]) -> int:
    """Return how often a composition holds another one, 0 where it is no multiple of it."""
    n = gcd(*(counts[symbol] // unit[symbol] for symbol in unit)) if unit else 0
    return n if counts == Counter({symbol: n * count for symbol, count in unit.items()}) else 0


def _factors(n: int) -> list[tuple[int, int, int]]:
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    return [(a, b, n // (a * b)) for a in divisors for b in divisors if n % (a * b) == 0]


def _strain(reference: Array, cell: Array) -> float:
    """Return the largest principal strain (logarithmic) between two cells, however turned."""
    ratio = np.linalg.solve(reference @ reference.T, cell @ cell.T)
    return float(np.max(np.abs(np.log(np.linalg.eigvals(ratio).real))) / 2)
