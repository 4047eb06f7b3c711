"""Training with DeePMD-kit: an ensemble of models that differ in their seeds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from jobflow import Flow, Job

from ionloop.codes import deepmd
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.jobs.documents import stamp, stored_job
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.roles import Reference, TrainMaker
from ionloop.jobs.tolerances import in_force
from ionloop.jobs.train.ensemble import LOST, collect_ensemble, kept, previous_checkpoint
from ionloop.jobs.train.evaluation import evaluation
from ionloop.jobs.train.split import groups, split
from ionloop.jobs.unfinished import unfinished
from ionloop.programs.concurrent import run_concurrently
from ionloop.schemas.label import Labels
from ionloop.schemas.potential import DEEPMD, EnsembleDoc, EvaluationDoc, LostTraining, TrainingDoc


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
        Trainings that one job runs at the same time on its GPU.

    Examples
    --------
    >>> from ionloop.codes.deepmd.settings import DeepmdSettings
    >>> settings = DeepmdSettings(steps=100_000, rcut=5.0)
    >>> maker = DeepmdTrainMaker(settings=settings, type_map=["Li", "S"], n_models=3)
    >>> flow = maker.make(dataset=[], seed=1)
    >>> [job.name for job in flow.jobs]
    ['train model 1 of 3', 'train model 2 of 3', 'train model 3 of 3', 'collect ensemble']
    """

    kind: ClassVar[str] = DEEPMD

    settings: DeepmdSettings = field(default_factory=lambda: DeepmdSettings(steps=400_000))
    n_models: int = 4
    min_models: int = 2
    cores: int = 1
    per_gpu: int = 1

    def make(self, dataset: Reference, previous: Reference = None, seed: int = 0) -> Flow:
        """Train on a list of `Labels`; the output is an `EnsembleDoc`.

        Parameters
        ----------
        dataset, previous, seed
            As for `TrainMaker.make`.
        """
        seeds = [seed + number for number in range(self.n_models)]
        jobs, models = [], []
        for group in groups(seeds, self.per_gpu):
            job = train_deepmd(self, dataset, previous, list(group), list(group.values()))
            cores = self.cores * len(group)
            jobs.append(assign(job, Role.TRAIN, self._job_name(*group), cores))
            models += [job.output[position] for position in range(len(group))]
        collect = collect_ensemble(self.min_models, seeds, models)
        assign(collect, Role.TRAIN, "collect ensemble", bookkeeping=True)
        return Flow([*jobs, collect], output=collect.output, name=self.name)

    def _job_name(self, first: int, *others: int) -> str:
        numbers = f"models {first + 1} to {others[-1] + 1}" if others else f"model {first + 1}"
        return f"train {numbers} of {self.n_models}"

    def evaluate(self, ensemble: Reference, labels: Reference) -> Job:
        """Compare an ensemble with `Labels`; the output is an `EvaluationDoc`.

        Parameters
        ----------
        ensemble, labels
            As for `TrainMaker.evaluate`.
        """
        return assign(evaluate_deepmd(ensemble, labels), Role.EVALUATE, "evaluate")


@stored_job(expose_store=True)
def train_deepmd(
    maker: DeepmdTrainMaker,
    dataset: list[Labels],
    previous: EnsembleDoc | None,
    numbers: list[int] | int,
    seeds: list[int] | int,
) -> list[TrainingDoc | LostTraining] | TrainingDoc:
    """Train models at the same time; one that fails does not stop the others.

    Parameters
    ----------
    maker
        How to train.
    dataset
        What to train on.
    previous
        Ensemble of the last turn, if any.
    numbers
        Numbers of the models in the ensemble, from 0. Jobs that version 0.1 entered may name a
        single one; their output is its document.
    seeds
        A seed for each.

    Raises
    ------
    Exception
        The first failure, if all trainings fail.
    """
    maker = in_force(maker)
    with unfinished() as folder:
        if isinstance(numbers, int):
            assert isinstance(seeds, int)
            return train_in(folder, maker, dataset, previous, numbers, seeds)
        assert not isinstance(seeds, int)
        if len(numbers) == 1:
            return [train_in(folder, maker, dataset, previous, numbers[0], seeds[0])]
        calls = [
            partial(train_in, folder / f"model-{n}", maker, dataset, previous, n, seed)
            for n, seed in zip(numbers, seeds, strict=True)
        ]
        return kept(run_concurrently(calls, folder), seeds)


def train_in(
    folder: Path,
    maker: DeepmdTrainMaker,
    dataset: list[Labels],
    previous: EnsembleDoc | None,
    number: int,
    seed: int,
) -> TrainingDoc:
    """Train one model in a folder, or continue what was begun there.

    Parameters
    ----------
    folder
        Where the files of the training go.
    maker
        How to train.
    dataset
        What to train on.
    previous
        Ensemble of the last turn, if any.
    number
        Number of the model in the ensemble, from 0.
    seed
        Seed of the nets and of the order of the frames.
    """
    training, validation = split(dataset, maker.validation_fraction, maker.allow_mixed)
    checkpoint = previous_checkpoint(previous, number, maker.n_models)
    lost = previous is not None and checkpoint is None
    trained = deepmd.train(
        maker.settings,
        training,
        validation,
        type_map=maker.type_map,
        seed=seed,
        folder=folder,
        checkpoint=checkpoint,
    )
    if lost and maker.settings.warm_steps:
        trained = replace(trained, obstacle=LOST)
    versions = {"deepmd-kit": deepmd.program_version(maker.settings.command)}
    return TrainingDoc(
        **stamp(maker.settings, **versions),
        **vars(trained),
        kind=maker.kind,
        member=number,
        seed=seed,
        backend=maker.settings.backend,
        type_map=maker.type_map,
        cores=maker.cores,
    )


@stored_job(EvaluationDoc)
def evaluate_deepmd(ensemble: EnsembleDoc, labels: Labels) -> EvaluationDoc:
    """Compare the ensemble's mean with labels, and its deviation with its true error.

    Parameters
    ----------
    ensemble
        The models.
    labels
        Labelled frames.
    """
    models = [member.model for member in ensemble.members]
    predictions = [deepmd.predict(models, part, Path.cwd()) for part in labels.frames]
    return evaluation(labels.frames, predictions).model_copy(update=stamp())
