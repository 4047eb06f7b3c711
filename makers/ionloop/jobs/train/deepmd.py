"""Training: an ensemble of models that differ in their seeds, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from jobflow import Flow, Job

from ionloop.codes import deepmd
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.jobs.decorators import stored_job
from ionloop.jobs.placement import assign
from ionloop.jobs.provenance import stamp
from ionloop.jobs.roles import Reference, TrainMaker
from ionloop.jobs.tolerances import in_force
from ionloop.jobs.train.ensemble import LOST, collect_ensemble, kept, previous_checkpoint
from ionloop.jobs.train.evaluation import evaluation
from ionloop.jobs.train.split import groups, split
from ionloop.jobs.unfinished import unfinished
from ionloop.programs.concurrent import side_by_side
from ionloop.schemas.label import Labels
from ionloop.schemas.potential import EnsembleDoc, EvaluationDoc, LostTraining, TrainingDoc


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


@stored_job(EvaluationDoc)
def evaluate_deepmd(ensemble: EnsembleDoc, labels: Labels) -> EvaluationDoc:
    """Compare the ensemble's mean with labels, and its deviation with its true error."""
    models = [member.model for member in ensemble.members]
    predictions = [deepmd.predict(models, part, Path.cwd()) for part in labels.frames]
    return evaluation(labels.frames, predictions).model_copy(update=stamp())
