"""Training: an ensemble of models that differ in their seeds, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jobflow import Flow, Job

from ionloop.codes import deepmd
from ionloop.codes.deepmd import DeepmdSettings
from ionloop.codes.side_by_side import side_by_side
from ionloop.makers.base import (
    FloorError,
    Reference,
    TrainMaker,
    assign,
    collecting_job,
    stamp,
    stored_job,
    unfinished,
)
from ionloop.makers.tolerances import changed, in_force
from ionloop.schemas.dataset import held_back
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.label import Labels, at_todays_levels
from ionloop.schemas.potential import (
    EnsembleDoc,
    EvaluationDoc,
    LostTraining,
    StoredFile,
    TrainingDoc,
)
from ionloop.schemas.table import Table, join_tables
from ionloop.selection.calibration import calibrate, ensemble_deviation, max_force_error

LOST = "the last ensemble has no such model"


@dataclass
class DeepmdTrainMaker(TrainMaker):
    """Trains an ensemble of DeePMD-kit models.

    Parameters
    ----------
    settings
        Network, learning rates, steps; the same for every model.
    type_map
        Chemical symbols in the order of the models' types.
    n_models
        Models in the ensemble.
    min_models
        Models that must succeed for the turn to go on.
    validation_fraction
        Fraction of the frames held back from training, decided by trajectory for good.
    cores
        Cores of one training.
    per_gpu
        Trainings of one job, side by side on its GPU.
    """

    name: str = "train"
    settings: DeepmdSettings = field(default_factory=lambda: DeepmdSettings(steps=400_000))
    type_map: list[str] = field(default_factory=list)
    n_models: int = 4
    min_models: int = 2
    validation_fraction: float = 0.05
    cores: int = 1
    per_gpu: int = 1

    def make(self, dataset: Reference, previous: Reference = None, seed: int = 0) -> Flow:
        """Train on a list of `Labels`; the output is an `EnsembleDoc`."""
        seeds = [seed + number for number in range(self.n_models)]
        jobs = [self._job(dataset, previous, group) for group in groups(seeds, self.per_gpu)]
        ensemble = assign(
            collect_ensemble(self.min_models, seeds, [out for _, outs in jobs for out in outs]),
            "train",
            "collect ensemble",
            light=True,
        )
        members = [member for member, _ in jobs]
        return Flow([*members, ensemble], output=ensemble.output, name=self.name)

    def _job(
        self, dataset: Reference, previous: Reference, group: dict[int, int]
    ) -> tuple[Job, list[Reference]]:
        """Return the job that trains models of given numbers and seeds, and an output for each."""
        first, *others = group
        cores = self.cores * len(group)
        if not others:
            alone = train_deepmd(self, dataset, previous, first, group[first])
            name = f"train model {first + 1} of {self.n_models}"
            return assign(alone, "train", name, cores), [alone.output]
        together = train_side_by_side(self, dataset, previous, list(group), list(group.values()))
        name = f"train models {first + 1} to {others[-1] + 1} of {self.n_models}"
        outputs = [together.output[position] for position in range(len(group))]
        return assign(together, "train", name, cores), outputs

    def evaluate(self, ensemble: Reference, labels: Reference) -> Job:
        """Compare an ensemble with `Labels`; the output is an `EvaluationDoc`."""
        return assign(evaluate_deepmd(ensemble, labels), "evaluate", "evaluate")


@stored_job(TrainingDoc, expose_store=True)
def train_deepmd(
    maker: DeepmdTrainMaker,
    dataset: list[Labels],
    previous: EnsembleDoc | None,
    number: int,
    seed: int,
) -> TrainingDoc:
    """Train one model."""
    maker = in_force(maker)
    with unfinished() as folder:
        return train_in(folder, maker, dataset, previous, number, seed)


@stored_job(expose_store=True)
def train_side_by_side(
    maker: DeepmdTrainMaker,
    dataset: list[Labels],
    previous: EnsembleDoc | None,
    numbers: list[int],
    seeds: list[int],
) -> list[TrainingDoc | LostTraining]:
    """Train several models at the same time; one that fails does not take the others with it.

    Raises
    ------
    deepmd.TrainingError
        If all fail.
    """
    maker = in_force(maker)
    with unfinished() as folder:
        calls = [
            partial(train_in, folder / f"model-{n}", maker, dataset, previous, n, seed)
            for n, seed in zip(numbers, seeds, strict=True)
        ]
        outcomes = side_by_side(calls, folder)
        return kept(outcomes, seeds)


def train_in(
    folder: Path,
    maker: DeepmdTrainMaker,
    dataset: list[Labels],
    previous: EnsembleDoc | None,
    number: int,
    seed: int,
) -> TrainingDoc:
    """Train one model in a folder, or go on with what was begun there."""
    training, validation = split(dataset, maker.validation_fraction, maker.allow_mixed)
    checkpoint = previous_checkpoint(previous, number, maker.n_models)
    lost = previous is not None and checkpoint is None
    result = deepmd.train(
        maker.settings,
        training,
        validation,
        type_map=maker.type_map,
        seed=seed,
        folder=folder,
        checkpoint=checkpoint,
    )
    versions = {"deepmd-kit": deepmd.program_version(maker.settings.command)}
    return TrainingDoc(
        **stamp(maker.settings, **versions),
        member=number,
        seed=seed,
        backend=maker.settings.backend,
        type_map=maker.type_map,
        steps=result.steps,
        warm_start=result.warm_start,
        obstacle=LOST if maker.settings.warm_steps and lost else result.obstacle,
        train_errors=result.train_errors,
        validation_errors=result.validation_errors,
        learning_curve=result.learning_curve,
        seconds=result.seconds,
        cores=maker.cores,
        model=result.model,
        checkpoint=result.checkpoint,
    )


def groups(seeds: Sequence[int], size: int) -> list[dict[int, int]]:
    """Divide the models of an ensemble into groups of at most `size`: seeds by number."""
    numbered = list(enumerate(seeds))
    return [dict(numbered[start : start + size]) for start in range(0, len(numbered), size)]


def kept(
    outcomes: Sequence[TrainingDoc | BaseException], seeds: Sequence[int]
) -> list[TrainingDoc | LostTraining]:
    """Return the trainings that succeeded, and in the place of each other one its reason.

    Raises
    ------
    Exception
        The first failure, if nothing succeeded.
    """
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if len(failures) == len(outcomes):
        raise failures[0]
    return [
        LostTraining(seed=seed, reason=str(outcome))
        if isinstance(outcome, BaseException)
        else outcome
        for seed, outcome in zip(seeds, outcomes, strict=True)
    ]


@collecting_job(EnsembleDoc, tolerant=True)
def collect_ensemble(min_models: int, seeds: list[int], members: list[Any]) -> EnsembleDoc:
    """Gather the models that were trained.

    Raises
    ------
    FloorError
        If fewer than `min_models` were.
    """
    min_models = changed().get("min_models", min_models)
    numbers = [n for n, member in enumerate(members) if isinstance(member.value, TrainingDoc)]
    done = [members[number] for number in numbers]
    lost = [
        f"the training of model {n + 1} with seed {seeds[n]} failed{_reason(member.value)}"
        for n, member in enumerate(members)
        if n not in numbers
    ]
    if len(done) < min_models:
        raise FloorError(
            f"{len(done)} of {len(seeds)} trainings succeeded, at least {min_models} must "
            "(train.min_models); the log of a failed training is in its job's record"
        )
    documents: list[TrainingDoc] = [member.value for member in done]
    return EnsembleDoc(
        **stamp(),
        n_asked=len(seeds),
        members=[member.reference for member in done],
        numbers=numbers,
        seeds=[document.seed for document in documents],
        failures=lost,
        notes=scratch_notes(numbers, [document.obstacle for document in documents]),
        train_errors=[document.train_errors for document in documents],
        validation_errors=[d.validation_errors for d in documents if d.validation_errors],
        core_seconds=sum(document.seconds * document.cores for document in documents),
    )


def scratch_notes(numbers: Sequence[int], obstacles: Sequence[str]) -> list[str]:
    """Say which models started from scratch though they were not to, a sentence per reason."""
    groups: dict[str, list[str]] = {}
    for number, obstacle in zip(numbers, obstacles, strict=True):
        groups.setdefault(obstacle, []).append(str(number + 1))
    return [
        f"model {', '.join(models)} of this training started from scratch: {obstacle}"
        for obstacle, models in groups.items()
        if obstacle
    ]


def _reason(lost: LostTraining | None) -> str:
    return f": {lost.reason.splitlines()[0]}" if lost and lost.reason else ""


@stored_job(EvaluationDoc)
def evaluate_deepmd(ensemble: EnsembleDoc, labels: Labels) -> EvaluationDoc:
    """Compare the ensemble's mean with labels, and its deviation with its true error."""
    models = [member.model for member in ensemble.members]
    predictions = [deepmd.predict(models, part, Path.cwd()) for part in labels.frames]
    return evaluation(labels.frames, predictions).model_copy(update=stamp())


def evaluation(frames: Sequence[Frames], predictions: Sequence[deepmd.Prediction]) -> EvaluationDoc:
    """Build the document from predictions, one per entry of `frames`."""
    if not frames:
        empty = Table({"max_devi_f": np.zeros(0), "max_force_error": np.zeros(0)})
        return EvaluationDoc(deviation_against_error=empty, energies=Table({}))
    comparison = join_tables(map(_deviations, frames, predictions))
    return EvaluationDoc(
        errors=deepmd.force_errors([p.mean for p in predictions], frames),
        model_errors=[
            deepmd.force_errors([p.of(model) for p in predictions], frames)
            for model in range(len(predictions[0].energies))
        ],
        deviation_against_error=comparison,
        energies=join_tables(map(_energies, frames, predictions)),
        rank_correlation=rank_correlation(comparison),
    )


def rank_correlation(comparison: Table) -> float | None:
    """Return Spearman's correlation of deviation and error; None where neither or one varies."""
    deviation, error = comparison["max_devi_f"], comparison["max_force_error"]
    if len(deviation) < 2 or not np.all(deviation > 0) or not np.ptp(deviation) * np.ptp(error):
        return None
    return calibrate(deviation, error).rank_correlation


def split(
    dataset: Sequence[Labels], fraction: float, allow_mixed: bool = False
) -> tuple[list[Frames], list[Frames]]:
    """Split the frames of a data set into those trained on and those held back, group by group.

    Where levels of theory may mix, the frames no longer say which theirs is.

    Raises
    ------
    InputError
        If every frame is held back.
    """
    parts = [part for labels in at_todays_levels(dataset) for part in labels.frames]
    held = held_back(parts, fraction)
    frames = concatenate(replace(part, level=None) if allow_mixed else part for part in parts)
    masks = [np.array([i in held for i in part.ids], dtype=bool) for part in frames]
    if held and all(mask.all() for mask in masks):
        raise InputError(
            f"all {len(held)} frames are held back from training, since they come from few "
            "trajectories or files and are held back by the whole of one; set "
            "train.validation_fraction to 0, or add initial frames of another kind"
        )
    training = concatenate(part[~mask] for part, mask in zip(frames, masks, strict=True))
    validation = concatenate(part[mask] for part, mask in zip(frames, masks, strict=True))
    return training, validation


def previous_checkpoint(
    previous: EnsembleDoc | None, number: int, n_models: int
) -> StoredFile | None:
    """Return the checkpoint that a model starts from: that of the same member, if it is there.

    Never that of another one: two models of one origin agree for that reason, and their deviation
    says nothing. A model that is trained alone has none to agree with; without its own
    predecessor it starts from the first there is.
    """
    if previous is None:
        return None
    checkpoints: list[StoredFile] = [member.checkpoint for member in previous.members]
    of_members = dict(zip(previous.member_numbers, checkpoints, strict=False))
    return of_members.get(number, checkpoints[0] if n_models == 1 else None)


def _deviations(frames: Frames, prediction: deepmd.Prediction) -> Table:
    assert frames.forces is not None
    return Table(
        {
            "frame_id": np.array(frames.ids),
            "max_devi_f": ensemble_deviation(prediction.forces),
            "max_force_error": max_force_error(prediction.mean.forces[0], frames.forces),
        }
    )


def _energies(frames: Frames, prediction: deepmd.Prediction) -> Table:
    assert frames.energies is not None
    return Table(
        {
            "reference": frames.energies / frames.n_atoms,
            "predicted": prediction.energies.mean(axis=0) / frames.n_atoms,
        }
    )
