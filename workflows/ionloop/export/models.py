"""Write the models of a run."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobflow import JobStore

from ionloop.export.folder import ExportError, prepare_targets, write_account
from ionloop.monitor.records import check_run, levels, outputs, summary
from ionloop.schemas.potential import EnsembleDoc, TrainingDoc


def export_models(
    store: JobStore, run: str, folder: Path, iteration: int | None = None, force: bool = False
) -> list[Path]:
    """Write the trained models of a run, and an account of where they come from.

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
        If there is no such ensemble, or files are in the way.
    """
    check_run(store, run)
    ensemble = _ensemble(store, run, iteration)
    trainings = [_training(store, member) for member in ensemble.members]
    names = [f"potential-{i}{Path(each.model.name).suffix}" for i, each in enumerate(trainings)]
    models = {folder / name: each for name, each in zip(names, trainings, strict=True)}
    account = folder / "potential.json"
    prepare_targets([*models, account], force, account)
    for target, training in models.items():
        training.model.write(folder, target.name)
    about = _account(store, run, iteration, models)
    taught = ensemble.teacher.model_dump(mode="json") if ensemble.teacher else None
    write_account(account, about | {"teacher": taught}, models)
    return [*models, account]


def _ensemble(store: JobStore, run: str, iteration: int | None) -> EnsembleDoc:
    # The ensemble of the production is the one without an iteration, and without a round of the
    # distillation that it may have come from.
    criteria = {"metadata.iteration": iteration, "metadata.round": None}
    found = outputs(store, run, "EnsembleDoc", criteria=criteria)
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
    # One job may have trained several models: the reference says which of its outputs is meant.
    keys = [key for _, key in reference.get("attributes") or ()]
    return TrainingDoc.from_stored(functools.reduce(operator.getitem, keys, stored["output"]))


def _account(
    store: JobStore, run: str, iteration: int | None, models: Mapping[Path, TrainingDoc]
) -> dict[str, Any]:
    end = summary(store, run) if iteration is None else None
    validation = end.validation if end else None
    return {
        "run": run,
        "iteration": "production" if iteration is None else iteration,
        "type_map": next(iter(models.values())).type_map,
        "level_of_theory": " and ".join(
            sorted({level.description for level in levels(store, run)})
        ),
        "validation": validation.errors.model_dump(mode="json") if validation else None,
        "models": [_model_account(path, member) for path, member in models.items()],
    }


def _model_account(path: Path, member: TrainingDoc) -> dict[str, Any]:
    fields = {"seed", "backend", "steps", "warm_start", "train_errors", "validation_errors"}
    return {
        "file": path.name,
        "sha256": member.model.sha256,
        **member.model_dump(mode="json", include=fields),
        "versions": member.provenance.versions,
    }
