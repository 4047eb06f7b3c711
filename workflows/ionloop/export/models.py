"""Write the models of a run."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobflow import JobStore

from ionloop.export.dataset import write_json, written_files
from ionloop.export.folder import ExportError, make_way
from ionloop.export.records import level_words, stored_outputs
from ionloop.schemas.potential import EnsembleDoc, TrainingDoc
from ionloop.schemas.run import SummaryDoc


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
    make_way([*targets, account], force, account)
    for member, target in zip(members, targets, strict=True):
        member.model.write(folder, target.name)
    content = _potential_account(store, run, iteration, targets, members)
    write_json(account, content | {"files": written_files(targets)})
    return [*targets, account]


def _ensemble(store: JobStore, run: str, iteration: int | None) -> EnsembleDoc:
    # Only the ensembles of turns carry an iteration: the one without is the production's.
    found = stored_outputs(store, run, "EnsembleDoc", iteration)
    if found:
        return EnsembleDoc.from_stored(found[-1])
    if iteration is None:
        raise ExportError(
            f"run {run!r} has no production potential yet; name a turn (--iteration 0) for the "
            "ensemble that it explored with"
        )
    raise ExportError(f"run {run!r} has no ensemble of turn {iteration}")


def _training(store: JobStore, reference: dict[str, Any]) -> TrainingDoc:
    stored = store.query_one(
        {"uuid": reference["uuid"]}, properties=["output"], sort={"index": -1}, load=True
    )
    if stored is None:
        raise ExportError(f"the training {reference['uuid']} is not in the store any more")
    # Of trainings that shared a job, the reference says which of its outputs is meant.
    keys = [key for _, key in reference.get("attributes") or ()]
    return TrainingDoc.from_stored(functools.reduce(operator.getitem, keys, stored["output"]))


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
        "level_of_theory": level_words(store, run),
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


def _validation(store: JobStore, run: str) -> dict[str, Any] | None:
    found = stored_outputs(store, run, "SummaryDoc")
    validation = SummaryDoc.from_stored(found[-1]).validation if found else None
    return validation.errors.model_dump(mode="json") if validation else None
