"""Labels that come from outside: which finished calculation is of which requested frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from ionloop.codes.acceptance import AcceptanceLimits
from ionloop.codes.conversions import poscars, write_frames
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.packed import Array


class ExternalSettings(Model):
    """Labels that are calculated outside of ionloop and imported."""

    level: Annotated[str, Field(min_length=1)] = Field(
        description="the level of theory in words, such as 'VASP 6.4, PBE, 500 eV, Γ'; another "
        "text is another level"
    )
    folder: Path = Field(
        Path("to_label"), description="folder into which the frames to label are written"
    )
    limits: AcceptanceLimits = Field(
        AcceptanceLimits(),
        description="limits beyond which a label is rejected; position_tolerance also decides "
        "whether a calculation is of a frame",
    )


def level_of_theory(settings: ExternalSettings) -> LevelOfTheory:
    """Describe the level of theory by its words alone."""
    return LevelOfTheory(code="external", settings={"level": settings.level})


def write_requests(frames: Sequence[Frames], folder: Path) -> None:
    """Write frames to label: a POSCAR each, named by formula and frame id, and one extxyz of all.

    Nothing is removed: results may lie in the folder already.

    Parameters
    ----------
    frames
        The frames.
    folder
        Where to; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in frames:
        for frame_id, text in zip(part.ids, poscars(part), strict=True):
            (folder / f"{part.formula}-{frame_id}.vasp").write_text(text)
    write_frames(concatenate(frames), folder / "frames.extxyz", "extxyz")


def find_request(
    given: Frames, requests: Mapping[str, Frames], tolerance: float
) -> tuple[str, Frames] | None:
    """Find the requested frame that a calculation is of.

    Parameters
    ----------
    given
        One labelled frame.
    requests
        Requested frames by id.
    tolerance
        How far in Å an atom or a lattice vector may be from the request.

    Returns
    -------
    tuple or None
        The frame's id, and the labels in its order and orientation; None if it is of no request.
    """
    if given.ids[0] in requests:
        return given.ids[0], given
    same = {k: frame for k, frame in requests.items() if _same_atoms(frame, given)}
    in_order = sorted(same, key=lambda k: same[k].symbols != given.symbols)
    for frame_id in in_order:
        fitted = fit(same[frame_id], given, tolerance)
        if fitted is not None:
            return frame_id, fitted
    return None


def fit(request: Frames, given: Frames, tolerance: float) -> Frames | None:
    """Return a calculation in the atom order and orientation of a requested frame.

    Programs and readers wrap atoms into the cell, sort them by species, round their positions,
    and turn the cell; forces and virial turn back with it.

    Parameters
    ----------
    request
        One frame.
    given
        One labelled frame of the same atoms in any order.
    tolerance
        How far in Å an atom or a lattice vector may be from the request.

    Returns
    -------
    Frames or None
        The labelled frame; None if it is another configuration.
    """
    turn = _rotation(request.cells[0], given.cells[0])
    if _length(request.cells[0] @ turn - given.cells[0]).max() > tolerance:
        return None
    order = _order(request, given, tolerance)
    if order is None:
        return None
    assert given.forces is not None
    virials = None if given.virials is None else turn @ given.virials @ turn.T
    return replace(
        request,
        positions=_positions(request, given, order),
        cells=given.cells @ turn.T,
        energies=given.energies,
        forces=given.forces[:, order] @ turn.T,
        virials=virials,
    )


def _same_atoms(request: Frames, given: Frames) -> bool:
    return sorted(request.symbols) == sorted(given.symbols)


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
