"""Labels that come from outside: which finished calculation is of which requested frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ionloop.formats.writing import write_frames, write_poscars
from ionloop.geometry.matching import fit
from ionloop.schemas.frames import Frames, concatenate


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
    write_poscars(frames, folder)
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
    for frame_id in sorted(requests, key=lambda k: requests[k].symbols != given.symbols):
        if (fitted := fit(requests[frame_id], given, tolerance)) is not None:
            return frame_id, fitted
    return None
