"""Checks that need no model: distances, the shape of the cell, the temperature."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from ionloop.geometry.neighbours import finite, measurable, neighbours, pair_kinds
from ionloop.geometry.periodic import heights
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.units import Length

REACH = 2.0
"""Distances are looked for up to this multiple of their limit."""


class PhysicalLimits(Model):
    """Limits beyond which a frame is no longer a configuration of the material.

    In the 2,390 labelled LGPS frames of Huang et al. (2021), up to 1200 K, no distance is below
    0.73 of the sum of the covalent radii.
    """

    distance_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """smallest distance of two atoms over the sum of their covalent radii"""
    distances: dict[str, Annotated[Length, Field(gt=0)]] = Field(default_factory=dict)
    """smallest distances in Å that replace the above, such as {'Li-S': 1.6}"""
    volume_ratio: tuple[float, float] = (0.6, 1.8)
    """smallest and largest volume over that of the start"""
    skew_ratio: float = Field(2.0, gt=1)
    """largest skewness of the cell over that of the start"""
    temperature_ratio: float = Field(3.0, gt=1)
    """largest instantaneous temperature over the thermostat's, without what is left of the heat of
    the start's perturbation"""

    @field_validator("distances")
    @classmethod
    def _sort_pairs(cls, distances: dict[str, float]) -> dict[str, float]:
        return {_pair_name(pair): limit for pair, limit in distances.items()}

    @field_validator("volume_ratio")
    @classmethod
    def _check_order(cls, ratios: tuple[float, float]) -> tuple[float, float]:
        if not 0 < ratios[0] < 1 < ratios[1]:
            raise ValueError(f"volume_ratio {ratios} must enclose 1, such as (0.6, 1.8)")
        return ratios

    def of_pair(self, pair: str) -> float:
        """Return the smallest distance of a pair such as ``"Li-S"`` in Å."""
        if pair in self.distances:
            return self.distances[pair]
        return self.distance_fraction * float(covalent_radii(pair.split("-")).sum())


class Inspection(NamedTuple):
    """What the physical checks found.

    Parameters
    ----------
    faults
        What is wrong with each frame, "" where nothing is, (f,).
    min_distance_ratios
        Smallest distance, over all periodic images, over the limit of its pair of species, (f,):
        below 1 two atoms are too near. `REACH` stands for everything from there on, NaN for frames
        that are not finite or whose cell is flat.
    """

    faults: Array
    min_distance_ratios: Array


def inspect(
    frames: Frames,
    limits: PhysicalLimits | None = None,
    *,
    start: Frames | None = None,
    temperatures: Array | None = None,
    target: float | None = None,
) -> Inspection:
    """Check distances, cells and temperatures.

    Parameters
    ----------
    frames
        f frames.
    limits
        Physical limits; the defaults of `PhysicalLimits` if absent.
    start
        The one frame with whose cell the others are compared; cells are not compared if absent.
    temperatures
        Instantaneous temperatures in K, (f,), without what a perturbed start is expected to add;
        not checked if absent.
    target
        Temperature of the thermostat in K.

    Returns
    -------
    Inspection
        The faults ("not finite", "flat cell", "collapsed cell", "inflated cell", "skewed cell",
        "exploded temperature", "Li-S too near"; the first that applies), and the smallest
        distances over their limits.

    Raises
    ------
    ValueError
        If temperatures come without a target, or there is not one start frame.
    """
    limits = limits or PhysicalLimits()
    ratios, near = _closest(frames, limits)
    undefined = np.where(measurable(frames), "", "flat cell")
    checks = [np.where(finite(frames), undefined, "not finite")]
    if start is not None:
        checks.append(_distorted(frames, start, limits))
    if temperatures is not None:
        if target is None:
            raise ValueError(
                "temperatures are checked against a target: give the thermostat's in K"
            )
        below = np.asarray(temperatures, dtype=float) <= limits.temperature_ratio * target
        checks.append(np.where(below, "", "exploded temperature"))
    checks.append(near)
    faults = np.select([check != "" for check in checks], checks, "")
    return Inspection(faults, ratios)


def nearest_atoms(frame: Frames) -> str:
    """Describe the pair of atoms of one frame that is nearest for its radii.

    Parameters
    ----------
    frame
        One frame.

    Returns
    -------
    str
        Such as ``"atoms 3 (Li) and 17 (S) are 0.41 Å apart"``, atoms counted from 1; empty if the
        cell is flat or a number is not finite.
    """
    if not measurable(frame)[0]:
        return ""
    one, other, distance, _ = nearest_pair(frame)
    return (
        f"atoms {one + 1} ({frame.symbols[one]}) and {other + 1} ({frame.symbols[other]}) are "
        f"{distance:.3g} Å apart"
    )


def nearest_pair(frame: Frames) -> tuple[int, int, float, float]:
    """Return the pair of atoms that is nearest for its covalent radii.

    Parameters
    ----------
    frame
        One frame, finite, with a cell of non-zero volume.

    Returns
    -------
    tuple
        The numbers of the atoms, from 0, their distance in Å, and the distance over the sum of
        their covalent radii.
    """
    radii = covalent_radii(frame.symbols)
    # No packing of spheres is denser than close packing: some pair is always within this.
    (found,) = neighbours(frame, 1.13 * float(np.cbrt(frame.volumes[0] / frame.n_atoms)))
    ratios = found.distance / (radii[found.first] + radii[found.second])
    nearest = int(ratios.argmin())
    pair = int(found.first[nearest]), int(found.second[nearest])
    return *pair, float(found.distance[nearest]), float(ratios[nearest])


def covalent_radii(symbols: Iterable[str]) -> Array:
    """Return covalent radii in Å: those of Cordero et al., Dalton Trans. 2008, 2832, from ASE."""
    from ase import data

    radii: Array = data.covalent_radii[[data.atomic_numbers[symbol] for symbol in symbols]]
    return radii


def skewness(cells: Array) -> Array:
    """Return the largest ratio of an edge to the height along it, 1 for an orthogonal cell.

    Parameters
    ----------
    cells
        Lattice vectors as rows in Å, (f, 3, 3).

    Returns
    -------
    Array
        Skewness, (f,); infinite for a flat cell.
    """
    edges = np.linalg.norm(cells, axis=-1)
    across = heights(cells)
    ratios = np.divide(edges, across, out=np.full_like(edges, np.inf), where=across > 0)
    largest: Array = ratios.max(axis=-1)
    return largest


def _pair_name(pair: str) -> str:
    from ase.data import atomic_numbers

    symbols = sorted(pair.split("-"))
    if len(symbols) != 2 or not set(symbols) <= set(atomic_numbers):
        raise ValueError(f"'{pair}' is not a pair of elements; write it such as 'Li-S'")
    return "-".join(symbols)


def _closest(frames: Frames, limits: PhysicalLimits) -> tuple[Array, Array]:
    """Return the smallest distance over its limit, and the fault where that is below 1."""
    kinds, names = pair_kinds(frames)
    allowed = np.array([limits.of_pair(name) for name in names])
    sound = np.flatnonzero(measurable(frames))
    smallest = np.full((len(frames), len(names)), np.nan)
    smallest[sound] = REACH
    for found in neighbours(frames[sound], REACH * allowed.max()):
        kind = kinds[found.first, found.second]
        entry = (sound[found.frames][found.frame], kind)
        np.minimum.at(smallest, entry, found.distance / allowed[kind])
    nearest = smallest.argmin(axis=1)
    ratios = smallest[np.arange(len(frames)), nearest]
    faults = np.array([f"{name} too near" for name in names])
    return ratios, np.where(ratios < 1, faults[nearest], "")


def _distorted(frames: Frames, start: Frames, limits: PhysicalLimits) -> Array:
    """Compare volumes and skewness with the start's."""
    if len(start) != 1:
        raise ValueError(f"the start is one frame, not {len(start)}")
    cells = np.where(finite(frames)[:, None, None], frames.cells, start.cells)
    volumes = np.abs(np.linalg.det(cells)) / start.volumes
    smallest, largest = limits.volume_ratio
    skewed = skewness(cells) > limits.skew_ratio * skewness(start.cells)
    distortions = [volumes < smallest, volumes > largest, skewed]
    return np.select(distortions, ["collapsed cell", "inflated cell", "skewed cell"], "")
