"""Export: what a run has made, as files that other programs read."""

from __future__ import annotations

import contextlib
import functools
import json
import operator
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobflow import JobStore

from ionloop.codes.conversions import write_frames
from ionloop.makers.ledger import Ledger
from ionloop.schemas.dataset import DatasetDoc
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.exploration import ExplorationPart
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.iteration import IterationDoc
from ionloop.schemas.label import LabelDoc, Labels, LevelOfTheory
from ionloop.schemas.potential import EnsembleDoc, TrainingDoc
from ionloop.schemas.run import SummaryDoc

DATASET_FORMATS = {"deepmd/npy": "", "deepmd/hdf5": ".hdf5", "extxyz": ".extxyz"}
"""Formats of a data set, and the suffix of what is written: none for a folder."""


class ExportError(IonloopError, ValueError):
    """Nothing can be exported; the message says why and what to do."""


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
    _make_way([*targets.values(), account], force, account)
    labels = _labels(store, run, turn.dataset)
    for side, target in targets.items():
        frames = (labels[i].frame for i in parts[side])
        write_frames(concatenate(_unmixed(frames, turn.dataset)), target, fmt)
    files = _files(targets.values())
    _write_json(account, _dataset_account(run, turn, labels) | {"files": files})
    return [*targets.values(), account]


def export_models(
    store: JobStore, run: str, folder: Path, iteration: int | None = None, force: bool = False
) -> list[Path]:
    """Write trained models, and where they come from.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    folder
        Where ``potential-0.pb`` and so on, and ``potential.json``, go. The suffix is the code's.
    iteration
        The ensemble of this turn; the production potential if left out.
    force
        Replace what an earlier export wrote; files of anything else are never touched.

    Returns
    -------
    list[Path]
        What was written.

    Raises
    ------
    ExportError
        If there is no such ensemble, or files are in the way.
    """
    ensemble = _ensemble(store, run, iteration)
    members = [_training(store, member) for member in ensemble.members]
    suffixes = [Path(member.model.name).suffix for member in members]
    targets = [folder / f"potential-{i}{suffix}" for i, suffix in enumerate(suffixes)]
    account = folder / "potential.json"
    _make_way([*targets, account], force, account)
    for member, target in zip(members, targets, strict=True):
        member.model.write(folder, target.name)
    content = _potential_account(store, run, iteration, targets, members)
    _write_json(account, content | {"files": _files(targets)})
    return [*targets, account]


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
    if _inside(folder):
        raise ExportError(f"the folder {folder} is not empty; choose another one")
    folder.mkdir(parents=True, exist_ok=True)
    write_frames(concatenate(frames), folder, "poscar")
    return sorted(folder.iterdir())


def claim_file(path: Path, force: bool = False) -> Path:
    """Return the path of a file to write, its folder made.

    Raises
    ------
    ExportError
        If it is there already, and `force` is not set.
    """
    _make_way([path], force)
    return path


def _turn(store: JobStore, run: str, iteration: int | None) -> IterationDoc:
    found = [IterationDoc.from_stored(output) for output in _outputs(store, run, "IterationDoc")]
    turns = {document.progress.index: document for document in found}
    if not turns:
        raise ExportError(f"run {run!r} has no finished turn, so it has no data set yet")
    wanted = max(turns) if iteration is None else iteration
    if wanted not in turns:
        raise ExportError(f"run {run!r} has no turn {wanted}; it has {_either(map(str, turns))}")
    return turns[wanted]


def _ensemble(store: JobStore, run: str, iteration: int | None) -> EnsembleDoc:
    # Only the ensembles of turns carry an iteration: the one without is the production's.
    found = _outputs(store, run, "EnsembleDoc", iteration)
    if found:
        return EnsembleDoc.from_stored(found[-1])
    if iteration is None:
        raise ExportError(
            f"run {run!r} has no production potential yet; name a turn (--iteration 0) for the "
            "ensemble that it explored with"
        )
    raise ExportError(f"run {run!r} has no ensemble of turn {iteration}")


def _outputs(store: JobStore, run: str, schema: str, *iteration: int | None) -> list[Any]:
    criteria: dict[str, Any] = {"metadata.run": run, "output.@class": schema}
    if iteration:
        criteria["metadata.iteration"] = iteration[0]
    return [document["output"] for document in store.query(criteria, properties=["output"])]


def _training(store: JobStore, reference: dict[str, Any]) -> TrainingDoc:
    stored = store.query_one(
        {"uuid": reference["uuid"]}, properties=["output"], sort={"index": -1}, load=True
    )
    if stored is None:
        raise ExportError(f"the training {reference['uuid']} is not in the store any more")
    # Of trainings that shared a job, the reference says which of its outputs is meant.
    keys = [key for _, key in reference.get("attributes") or ()]
    return TrainingDoc.from_stored(functools.reduce(operator.getitem, keys, stored["output"]))


def _candidates(store: JobStore, run: str) -> Iterable[Frames]:
    criteria = {"metadata.run": run, "output.@class": "ExplorationPart"}
    for document in store.query(criteria, load=True):
        yield from ExplorationPart.from_stored(document["output"]).candidates


def _chosen(frames: Frames, wanted: set[str]) -> Frames:
    return frames[[index for index, frame_id in enumerate(frames.ids) if frame_id in wanted]]


def _labels(store: JobStore, run: str, dataset: DatasetDoc) -> dict[str, LabelDoc]:
    ids = _all_ids(dataset)
    ledger = Ledger(_additional(store, "labels"))
    levels = [each for each in _levels(store, run) if each.hash in dataset.levels]
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


def _potential_account(
    store: JobStore,
    run: str,
    iteration: int | None,
    targets: Sequence[Path],
    members: Sequence[TrainingDoc],
) -> dict[str, Any]:
    return {
        "run": run,
        "iteration": "production" if iteration is None else iteration,
        "type_map": members[0].type_map,
        "level_of_theory": _level_words(store, run),
        "validation": _validation(store, run) if iteration is None else None,
        "models": [
            _model_account(target, member) for target, member in zip(targets, members, strict=True)
        ],
    }


def _model_account(target: Path, member: TrainingDoc) -> dict[str, Any]:
    fields = {"seed", "backend", "steps", "warm_start", "train_errors", "validation_errors"}
    account = member.model_dump(mode="json", include=fields)
    versions = member.provenance.versions
    return {"file": target.name, "sha256": member.model.sha256, **account, "versions": versions}


def _level_words(store: JobStore, run: str) -> str:
    return " and ".join(sorted({level.words for level in _levels(store, run)}))


def _levels(store: JobStore, run: str) -> list[LevelOfTheory]:
    """Return the levels of theory of a run's labels, each once."""
    levels = [Labels.from_stored(each).level for each in _outputs(store, run, "Labels")]
    return list({level.hash: level for level in levels}.values())


def _validation(store: JobStore, run: str) -> dict[str, Any] | None:
    found = _outputs(store, run, "SummaryDoc")
    validation = SummaryDoc.from_stored(found[-1]).validation if found else None
    return validation.errors.model_dump(mode="json") if validation else None


def _additional(store: Any, name: str) -> Any:
    return store.additional_stores[name]


def _make_way(targets: Sequence[Path], force: bool, account: Path | None = None) -> None:
    """Make the folders; remove what an earlier export wrote if told to, else refuse.

    Parameters
    ----------
    targets
        Files and folders to write.
    force
        Whether to replace what is there.
    account
        The account of the earlier export, which names all that it wrote.

    Raises
    ------
    ExportError
        Naming what is in the way.
    """
    there = [path for path in targets if path.is_file() or _inside(path)]
    if there and not force:
        raise ExportError(f"{there[0]} is there already; choose another folder, or --force")
    for path in _earlier(there, account):
        _remove(path)
    for path in targets:
        path.parent.mkdir(parents=True, exist_ok=True)


def _earlier(there: Iterable[Path], account: Path | None) -> set[Path]:
    """Return the files to replace, after looking that they are of an earlier export."""
    found = {file for path in there for file in (_inside(path) or {path})}
    if account is None:
        return found
    written = _written_before(account) | {account}
    if strange := found - written:
        raise ExportError(
            f"{min(strange)} is not of an earlier export: move it, or choose another folder"
        )
    return written if found else set()


def _remove(file: Path) -> None:
    """Remove a file, and the folders that are empty without it."""
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a folder that holds something stays
        for folder in file.parents:
            folder.rmdir()


def _written_before(account: Path) -> set[Path]:
    if not account.is_file():
        return set()
    try:
        names = json.loads(account.read_text()).get("files", [])
    except (ValueError, AttributeError):
        raise ExportError(
            f"{account} is not of an earlier export: move it, or choose another folder"
        ) from None
    home = account.parent.resolve()
    found = {account.parent / name for name in names}
    return {path for path in found if path.resolve().is_relative_to(home) and path.is_file()}


def _inside(path: Path) -> set[Path]:
    """Return the files of a folder; none of a file."""
    return {each for each in path.rglob("*") if not each.is_dir()} if path.is_dir() else set()


def _files(targets: Iterable[Path]) -> list[str]:
    """Return the names of all files that were written, relative to the folder of the export."""
    return sorted(
        str(file.relative_to(target.parent))
        for target in targets
        for file in (_inside(target) or {target})
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _either(words: Iterable[str]) -> str:
    return ", ".join(words)
