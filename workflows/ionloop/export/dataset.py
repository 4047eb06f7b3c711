"""Write the data set of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobflow import JobStore

from ionloop.export.folder import ExportError, files_inside, make_way
from ionloop.export.records import stored_levels, stored_outputs
from ionloop.formats.writing import write_frames
from ionloop.jobs.label.ledger import Ledger
from ionloop.schemas.dataset import DatasetDoc
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.iteration import IterationDoc
from ionloop.schemas.label import LabelDoc, LevelOfTheory

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
        Where ``dataset`` (a folder or a file, as the format has it) and ``dataset.json`` go.
    fmt
        deepmd/npy, deepmd/hdf5 or extxyz.
    iteration
        The data set as of the end of this turn; as of the last finished one if left out.
    split
        Write ``training`` and ``validation`` instead, as the trainings had them.
    force
        Replace what an earlier export wrote; files of anything else are never touched.

    Returns
    -------
    list[Path]
        What was written.

    Raises
    ------
    ExportError
        If the format is unknown, the run has no such turn, or files are in the way.
    """
    if fmt not in DATASET_FORMATS:
        known = _either(DATASET_FORMATS)
        raise ExportError(f"a data set is not written as {fmt!r}; choose one of {known}")
    turn = _turn(store, run, iteration)
    parts = _sides(turn.dataset) if split else {"dataset": _all_ids(turn.dataset)}
    targets = {side: folder / f"{side}{DATASET_FORMATS[fmt]}" for side, ids in parts.items() if ids}
    account = folder / "dataset.json"
    make_way([*targets.values(), account], force, account)
    labels = _labels(store, run, turn.dataset)
    for side, target in targets.items():
        frames = (labels[i].frame for i in parts[side])
        write_frames(concatenate(_unmixed(frames, turn.dataset)), target, fmt)
    files = written_files(targets.values())
    write_json(account, _dataset_account(run, turn, labels) | {"files": files})
    return [*targets.values(), account]


def _turn(store: JobStore, run: str, iteration: int | None) -> IterationDoc:
    found = [
        IterationDoc.from_stored(output) for output in stored_outputs(store, run, "IterationDoc")
    ]
    turns = {document.progress.index: document for document in found}
    if not turns:
        raise ExportError(f"run {run!r} has no finished turn, so it has no data set yet")
    wanted = max(turns) if iteration is None else iteration
    if wanted not in turns:
        raise ExportError(f"run {run!r} has no turn {wanted}; it has {_either(map(str, turns))}")
    return turns[wanted]


def _labels(store: JobStore, run: str, dataset: DatasetDoc) -> dict[str, LabelDoc]:
    ids = _all_ids(dataset)
    ledger = Ledger(_additional(store, "labels"))
    levels = [each for each in stored_levels(store, run) if each.hash in dataset.levels]
    labels = {i: label for level in levels for i, label in _accepted(ledger, ids, level)}
    if lost := set(ids) - set(labels):
        raise ExportError(
            f"{len(lost)} of {len(ids)} labels of the data set are not in the store any more; "
            f"first: {min(lost)}"
        )
    return labels


def _accepted(
    ledger: Ledger, ids: list[str], level: LevelOfTheory
) -> Iterable[tuple[str, LabelDoc]]:
    for i, label in ledger.find(ids, level).items():
        # What the data set holds was accepted by the limits of this run, whatever others say.
        if label.frame.is_labelled:
            frame = replace(label.frame, level=level.hash)
            yield i, label.model_copy(update={"frame": frame, "level_words": level.words})


def _unmixed(frames: Iterable[Frames], dataset: DatasetDoc) -> Iterable[Frames]:
    """Leave out the level of each frame where the data set has several, by the user's leave."""
    return (replace(frame, level=None) if len(dataset.levels) > 1 else frame for frame in frames)


def _sides(dataset: DatasetDoc) -> dict[str, list[str]]:
    return {"training": dataset.training, "validation": dataset.validation}


def _all_ids(dataset: DatasetDoc) -> list[str]:
    return sorted([*dataset.training, *dataset.validation])


def _dataset_account(run: str, turn: IterationDoc, labels: dict[str, LabelDoc]) -> dict[str, Any]:
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


def _additional(store: Any, name: str) -> Any:
    return store.additional_stores[name]


def written_files(targets: Iterable[Path]) -> list[str]:
    """Return the names of all files that were written, relative to the folder of the export."""
    return sorted(
        str(file.relative_to(target.parent))
        for target in targets
        for file in (files_inside(target) or {target})
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _either(words: Iterable[str]) -> str:
    return ", ".join(words)
