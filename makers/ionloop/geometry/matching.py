"""One configuration described twice: which atom is which, and how one description is turned."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array


@dataclass(frozen=True, eq=False)
class Match:
    """How another description of a configuration follows from the requested one.

    Parameters
    ----------
    order
        For each requested atom the other description's atom that is there, (n,).
    turn
        Orthogonal matrix that turns the requested cell (rows) into the other one, (3, 3).
    """

    order: Array
    turn: Array


def match(request: Frames, given: Frames, tolerance: float) -> Match | None:
    """Tell whether two frames are one configuration.

    Atoms may be listed in any order and stand at any periodic image, and the cell may be turned
    or mirrored, its three vectors in their order. A crystal that is moved as a whole counts as
    another configuration: on the grids of a plane-wave or Gaussian code its energy differs.

    Parameters
    ----------
    request, given
        One frame each.
    tolerance
        How far in Å an atom or a lattice vector may be from the request.

    Returns
    -------
    Match or None
        None if they are different configurations.
    """
    if sorted(request.symbols) != sorted(given.symbols):
        return None
    turn = _rotation(request.cells[0], given.cells[0])
    if _length(request.cells[0] @ turn - given.cells[0]).max() > tolerance:
        return None
    order = _order(request, given, tolerance)
    return None if order is None else Match(order, turn)


def relabelled(request: Frames, given: Frames, found: Match) -> Frames:
    """Return the label of one description as that of the other.

    Parameters
    ----------
    request
        The frame that was asked for.
    given
        The labelled frame.
    found
        How they match.

    Returns
    -------
    Frames
        `request` with the energy, and with forces and virial in its order and orientation.
    """
    assert given.forces is not None
    turn = found.turn
    return replace(
        request,
        energies=given.energies,
        forces=given.forces[:, found.order] @ turn.T,
        virials=None if given.virials is None else turn @ given.virials @ turn.T,
        level=given.level,
    )


def fit(request: Frames, given: Frames, tolerance: float) -> Frames | None:
    """Return a calculation in the atom order and orientation of a requested frame.

    Programs and readers wrap atoms into the cell, sort them by species, round their positions,
    and turn the cell; forces and virial turn back with it.

    Parameters
    ----------
    request
        One frame.
    given
        One labelled frame.
    tolerance
        How far in Å an atom or a lattice vector may be from the request.

    Returns
    -------
    Frames or None
        The labelled frame, at the positions of the calculation; None if it is another
        configuration.
    """
    found = match(request, given, tolerance)
    if found is None:
        return None
    return replace(
        relabelled(request, given, found),
        positions=_positions(request, given, found.order),
        cells=given.cells @ found.turn.T,
        level=request.level,
    )


def _rotation(cell: Array, turned: Array) -> Array:
    """Return the orthogonal matrix that turns one cell (rows) nearest to another (Kabsch 1976)."""
    left, _, right = np.linalg.svd(cell.T @ turned)
    rotation: Array = left @ right
    return rotation


def _order(request: Frames, given: Frames, tolerance: float) -> Array | None:
    """Return for each requested atom the calculated one that is where it was requested."""
    asked, found = _fractional(request), _fractional(given)
    moves = asked[:, None] - found[None]
    distances = _length((moves - np.rint(moves)) @ request.cells[0])
    other = np.array(request.symbols)[:, None] != np.array(given.symbols)[None]
    distances[other] = np.inf
    nearest: Array = distances.argmin(axis=1)
    fits = distances.min(axis=1).max() <= tolerance
    return nearest if fits and len(set(nearest.tolist())) == len(nearest) else None


def _positions(request: Frames, given: Frames, order: Array) -> Array:
    """Return the calculated positions in the requested cell, each at the image of its request."""
    asked, found = _fractional(request), _fractional(given)[order]
    positions: Array = (found + np.rint(asked - found)) @ request.cells[0]
    return positions[None]


def _fractional(frame: Frames) -> Array:
    fractional: Array = frame.positions[0] @ np.linalg.inv(frame.cells[0])
    return fractional


def _length(vectors: Array) -> Array:
    lengths: Array = np.linalg.norm(vectors, axis=-1)
    return lengths
