"""Training the models of an ensemble, one job for each or a few in one job."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jobflow import Flow, Job

from ionloop.codes.common.training import Training
from ionloop.jobs.documents import stamp, stored_job
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.roles import Reference, TrainMaker
from ionloop.jobs.tolerances import in_force
from ionloop.jobs.train.ensemble import LOST, collect_ensemble, kept, previous_checkpoint
from ionloop.jobs.train.evaluation import evaluate_ensemble
from ionloop.jobs.train.split import groups, split
from ionloop.jobs.unfinished import unfinished
from ionloop.programs.concurrent import run_concurrently
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels
from ionloop.schemas.potential import EnsembleDoc, LostTraining, StoredFile, TrainingDoc


@dataclass
class EnsembleTrainMaker(TrainMaker):
    """Trains the models of an ensemble in jobs of their own.

    A trainer defines `kind`, `fit` and the properties `backend` and `versions`.

    Parameters
    ----------
    n_models
        Models in the ensemble.
    min_models
        Models that must succeed for the turn to go on.
    cores
        Cores of one training.
    per_gpu
        Trainings that one job runs at the same time on its GPU.
    """

    n_models: int = 4
    min_models: int = 2
    cores: int = 1
    per_gpu: int = 1

    @abstractmethod
    def fit(
        self,
        training: Sequence[Frames],
        validation: Sequence[Frames],
        *,
        seed: int,
        folder: Path,
        checkpoint: StoredFile | None = None,
    ) -> Training:
        """Train one model in a folder, or continue what was begun there.

        Parameters
        ----------
        training, validation
            Labelled frames to train on, and those held back.
        seed
            Seed of everything that is random.
        folder
            Where the files of the training go; an interrupted one continues in it.
        checkpoint
            Checkpoint of the same model of the last turn, to start from if the settings say so.
        """

    def weights(self, dataset: Sequence[Labels]) -> Mapping[str, float]:
        """Return how many times as often as others some frames are drawn, by the frames' ids.

        A trainer that does not draw all frames alike overrides it, and its `fit` takes what is
        returned as `weights`.

        Parameters
        ----------
        dataset
            What is trained on.
        """
        return {}

    @property
    @abstractmethod
    def backend(self) -> str:
        """What trains, such as ``pytorch``."""

    @property
    @abstractmethod
    def versions(self) -> Mapping[str, str]:
        """Versions of the programs that train, by name."""

    @property
    @abstractmethod
    def starts_warm(self) -> bool:
        """Whether a training starts from the last turn's model where there is one."""

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
            job = train_members(self, dataset, previous, list(group), list(group.values()))
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
        return assign(evaluate_ensemble(ensemble, labels), Role.EVALUATE, "evaluate")


@stored_job(expose_store=True)
def train_members(
    maker: EnsembleTrainMaker,
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
    maker: EnsembleTrainMaker,
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
        Seed of everything that is random.
    """
    training, validation = split(dataset, maker.validation_fraction, maker.allow_mixed)
    checkpoint = previous_checkpoint(previous, number, maker.n_models)
    weights = maker.weights(dataset)
    how: dict[str, Any] = {"checkpoint": checkpoint} | ({"weights": weights} if weights else {})
    trained = maker.fit(training, validation, seed=seed, folder=folder, **how)
    if previous is not None and checkpoint is None and maker.starts_warm:
        trained = replace(trained, obstacle=LOST)
    settings: Any = getattr(maker, "settings", maker)
    return TrainingDoc(
        **stamp(settings, **maker.versions),
        **vars(trained) | {"type_map": list(trained.type_map or maker.type_map)},
        kind=maker.kind,
        member=number,
        seed=seed,
        backend=maker.backend,
        cores=maker.cores,
    )
