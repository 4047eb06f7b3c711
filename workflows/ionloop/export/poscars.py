"""Write candidates as POSCARs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jobflow import JobStore

from ionloop.export.folder import ExportError, files_inside
from ionloop.formats.writing import write_frames
from ionloop.schemas.exploration import ExplorationPart
from ionloop.schemas.frames import Frames, concatenate


def export_poscars(store: JobStore, run: str, frame_ids: Iterable[str], folder: Path) -> list[Path]:
    """Write explored frames as POSCAR files, one each, named by formula and frame id.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    frame_ids
        The frames; only candidates travelled back from the exploration and can be written.
    folder
        A new or empty folder.

    Returns
    -------
    list[Path]
        The files.

    Raises
    ------
    ExportError
        If none of the frames is in the store, or the folder is not empty.
    """
    wanted = {frame_id for frame_id in frame_ids if frame_id}
    frames = [_chosen(part, wanted) for part in _candidates(store, run)] if wanted else []
    if not any(map(len, frames)):
        raise ExportError(
            "none of these frames is in the store: an exploration sends back its candidates only"
        )
    if files_inside(folder):
        raise ExportError(f"the folder {folder} is not empty; choose another one")
    folder.mkdir(parents=True, exist_ok=True)
    write_frames(concatenate(frames), folder, "poscar")
    return sorted(folder.iterdir())


def _candidates(store: JobStore, run: str) -> Iterable[Frames]:
    criteria = {"metadata.run": run, "output.@class": "ExplorationPart"}
    for document in store.query(criteria, load=True):
        yield from ExplorationPart.from_stored(document["output"]).candidates


def _chosen(frames: Frames, wanted: set[str]) -> Frames:
    return frames[[index for index, frame_id in enumerate(frames.ids) if frame_id in wanted]]
