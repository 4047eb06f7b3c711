"""Write the frames of a run: its data set, or some of its candidates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobflow import JobStore

from ionloop.export.folder import ExportError, files_inside, prepare_targets, write_account
from ionloop.formats.writing import write_frames
from ionloop.jobs.label.ledger import Ledger
from ionloop.monitor.records import levels
from ionloop.monitor.turns import iterations
from ionloop.schemas.dataset import DatasetDoc
from ionloop.schemas.exploration import ExplorationPart
from ionloop.schemas.frames import concatenate
from ionloop.schemas.iteration import IterationDoc
from ionloop.schemas.label import LabelDoc
from ionloop.stores.connect import collection

DATASET_FORMATS = {"deepmd/npy": "", "deepmd/hdf5": ".hdf5", "extxyz": ".extxyz"}
"""Formats of a data set, and the suffix of what is written: none for a folder."""


def export_dataset(
    store: JobStore,
    run: str,
    folder: Path,
    fmt: str = "deepmd/npy",
    iteration: int | None = None,
    split: bool = False,
    force: bool = False,
) -> list[Path]:
    """Write the accepted labels of a run's data set.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    folder
        Where ``dataset`` (a folder or a file, depending on the format) and ``dataset.json`` go.
    fmt
        deepmd/npy, deepmd/hdf5 or extxyz.
    iteration
        The data set as of the end of this turn; as of the last finished one if left out.
    split
        Write ``training`` and ``validation`` instead, as the trainings had them.
    force
        Replace what an earlier export wrote; other files are never touched.

    Returns
    -------
    list[Path]
        What was written.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    ExportError
        If the format is unknown, the run has no such turn, or files are in the way.
    """
    if fmt not in DATASET_FORMATS:
        known = ", ".join(DATASET_FORMATS)
        raise ExportError(f"a data set is not written as {fmt!r}; choose one of {known}")
    turn = _turn(store, run, iteration)
    dataset = turn.dataset
    halves = {"training": dataset.training, "validation": dataset.validation}
    parts = halves if split else {"dataset": _all_ids(dataset)}
    parts = {name: ids for name, ids in parts.items() if ids}
    targets = {name: folder / f"{name}{DATASET_FORMATS[fmt]}" for name in parts}
    account = folder / "dataset.json"
    prepare_targets([*targets.values(), account], force, account)
    labels = _labels(store, run, dataset)
    for name, ids in parts.items():
        write_frames(concatenate(labels[i].frame for i in ids), targets[name], fmt)
    write_account(account, _account(run, turn, labels), targets.values())
    return [*targets.values(), account]


def export_poscars(store: JobStore, run: str, frame_ids: Iterable[str], folder: Path) -> list[Path]:
    """Write explored frames as POSCAR files, one each, named by formula and frame id.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    frame_ids
        The frames. Only candidates can be written: an exploration sends back no others.
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
    wanted = set(filter(None, frame_ids))
    criteria = {"metadata.run": run, "output.@class": "ExplorationPart"}
    frames = [
        candidates[[index for index, frame_id in enumerate(candidates.ids) if frame_id in wanted]]
        for document in (store.query(criteria, load=True) if wanted else ())
        for candidates in ExplorationPart.from_stored(document["output"]).candidates
    ]
    if not any(map(len, frames)):
        raise ExportError(
            "none of these frames is in the store: an exploration sends back its candidates only"
        )
    if files_inside(folder):
        raise ExportError(f"the folder {folder} is not empty; choose another one")
    folder.mkdir(parents=True, exist_ok=True)
    write_frames(concatenate(frames), folder, "poscar")
    return sorted(folder.iterdir())


def _turn(store: JobStore, run: str, iteration: int | None) -> IterationDoc:
    turns = {document.progress.index: document for document in iterations(store, run)}
    if not turns:
        raise ExportError(f"run {run!r} has no finished turn, so it has no data set yet")
    wanted = max(turns) if iteration is None else iteration
    if wanted not in turns:
        has = ", ".join(map(str, turns))
        raise ExportError(f"run {run!r} has no turn {wanted}; it has {has}")
    return turns[wanted]


def _labels(store: JobStore, run: str, dataset: DatasetDoc) -> dict[str, LabelDoc]:
    """Return the labels of a data set by frame id.

    Frames of several levels, which only the user can allow, come without their level: frames of
    different levels cannot be joined.
    """
    ids, ledger = _all_ids(dataset), Ledger(collection(store, "labels"))
    labels = {}
    for level in levels(store, run):
        found = ledger.find(ids, level) if level.hash in dataset.levels else {}
        hash_of_all = level.hash if len(dataset.levels) == 1 else None
        for frame_id, label in found.items():
            # This run has accepted the labels of its data set, whatever another run judged.
            if label.frame.is_labelled:
                frame = replace(label.frame, level=hash_of_all)
                update = {"frame": frame, "level_words": level.description}
                labels[frame_id] = label.model_copy(update=update)
    if lost := set(ids) - set(labels):
        raise ExportError(
            f"{len(lost)} of {len(ids)} labels of the data set are not in the store any more; "
            f"first: {min(lost)}"
        )
    return labels


def _all_ids(dataset: DatasetDoc) -> list[str]:
    return sorted([*dataset.training, *dataset.validation])


def _account(run: str, turn: IterationDoc, labels: dict[str, LabelDoc]) -> dict[str, Any]:
    return {
        "run": run,
        "iteration": turn.progress.index,
        "level": turn.dataset.level,
        "level_of_theory": " and ".join(sorted({d.level_words for d in labels.values()})),
        "notes": turn.dataset.notes,
        "n_frames": len(labels),
        "n_training": len(turn.dataset.training),
        "n_validation": len(turn.dataset.validation),
        "sha256": turn.dataset.sha256,
    }
