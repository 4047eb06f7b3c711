"""Two descriptions of one configuration: which atom is which, and how the cell is rotated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ionloop.geometry.periodic import fractional, nearest_image
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array


@dataclass(frozen=True, eq=False)
class Match:
    """How another description of a configuration follows from the requested one.

    Parameters
    ----------
    order
        For each requested atom, the index of the atom at its place in the other description, (n,).
    turn
        Orthogonal matrix that rotates the requested cell (rows) into the other one, (3, 3).
    """

    order: Array
    turn: Array


def match(request: Frames, given: Frames, tolerance: float) -> Match | None:
    """Tell whether two frames are one configuration.

    Atoms may be listed in any order and at any periodic image. The cell may be rotated or
    mirrored, but its three vectors keep their order. A crystal that is shifted as a whole counts
    as another configuration, because its energy differs on the grids of a plane-wave or Gaussian
    code.

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
    left, _, right = np.linalg.svd(request.cells[0].T @ given.cells[0])
    turn: Array = left @ right  # turns one cell nearest to the other (Kabsch 1976)
    if np.linalg.norm(request.cells[0] @ turn - given.cells[0], axis=1).max() > tolerance:
        return None
    order = _order(request, given, tolerance)
    return None if order is None else Match(order, turn)


def relabelled(request: Frames, given: Frames, found: Match) -> Frames:
    """Carry the label of one description over to the other.

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

    Programs and readers wrap atoms into the cell, sort them by species, round their positions and
    rotate the cell. All of this is undone, for forces and virial too.

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
    # Each atom at the image that is nearest to where it was requested.
    asked, calculated = _scaled(request), _scaled(given)[found.order]
    return replace(
        relabelled(request, given, found),
        positions=((asked - nearest_image(asked - calculated)) @ request.cells[0])[None],
        cells=given.cells @ found.turn.T,
        level=request.level,
    )


def _order(request: Frames, given: Frames, tolerance: float) -> Array | None:
    """Return for each requested atom the calculated one that is where it was requested."""
    cell = request.cells[0]
    steps = _scaled(request)[:, None] - _scaled(given)[None]
    distances = np.linalg.norm(nearest_image(steps) @ cell, axis=-1)
    distances[np.array(request.symbols)[:, None] != np.array(given.symbols)[None]] = np.inf
    nearest: Array = distances.argmin(axis=1)
    fits = distances.min(axis=1).max() <= tolerance
    return nearest if fits and len(set(nearest.tolist())) == len(nearest) else None


def _scaled(frame: Frames) -> Array:
    return fractional(frame.positions[0], frame.cells[0])
