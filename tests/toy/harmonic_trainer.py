"""A trainer in one file: an ensemble of harmonic crystals, fitted with numpy in milliseconds.

A model knows where the atoms of a crystal belong and a spring constant for every element; springs
pull the atoms back. The models of an ensemble are fitted to different halves of the frames.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jobflow import Flow, Job

from ionloop.codes.common.prediction import Prediction, force_errors
from ionloop.jobs.documents import stamp, stored_job
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.roles import Reference, TrainMaker
from ionloop.jobs.train.ensemble import collect_ensemble
from ionloop.jobs.train.evaluation import evaluation
from ionloop.jobs.train.split import split
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels
from ionloop.schemas.potential import EnsembleDoc, EvaluationDoc, StoredFile, TrainingDoc
from ionloop.schemas.table import Table

KIND = "harmonic"


@dataclass
class HarmonicTrainMaker(TrainMaker):
    """Trains an ensemble of harmonic crystals.

    Parameters
    ----------
    n_models
        Models in the ensemble.
    """

    kind: ClassVar[str] = KIND

    n_models: int = 3

    def make(self, dataset: Reference, previous: Reference = None, seed: int = 0) -> Flow:
        """Train on a list of `Labels`; the output is an `EnsembleDoc`."""
        seeds = [seed + number for number in range(self.n_models)]
        train = assign(fit_harmonic(self, dataset, seeds), Role.TRAIN, "fit springs")
        models = [train.output[number] for number in range(self.n_models)]
        collect = collect_ensemble(self.n_models, seeds, models)
        assign(collect, Role.TRAIN, "collect ensemble", bookkeeping=True)
        return Flow([train, collect], output=collect.output, name=self.name)

    def evaluate(self, ensemble: Reference, labels: Reference) -> Job:
        """Compare an ensemble with `Labels`; the output is an `EvaluationDoc`."""
        return assign(evaluate_harmonic(ensemble, labels), Role.EVALUATE, "evaluate springs")


@stored_job()
def fit_harmonic(
    maker: HarmonicTrainMaker, dataset: list[Labels], seeds: list[int]
) -> list[TrainingDoc]:
    """Fit one model for each seed."""
    frames, held_back = split(dataset, maker.validation_fraction, maker.allow_mixed)
    return [train(maker, frames, held_back, seed) for seed in seeds]


@stored_job(EvaluationDoc)
def evaluate_harmonic(ensemble: EnsembleDoc, labels: Labels) -> EvaluationDoc:
    """Compare predictions of the ensemble with labels."""
    models = [member.model for member in ensemble.members]
    predictions = [predict(models, part) for part in labels.frames]
    return evaluation(labels.frames, predictions).model_copy(update=stamp())


def train(
    maker: HarmonicTrainMaker, frames: list[Frames], held_back: list[Frames], seed: int
) -> TrainingDoc:
    """Fit a model to a random half of the frames, and compare it with all of them."""
    (crystal,) = frames  # of one composition
    chosen = np.random.default_rng(seed).permutation(len(crystal))[: len(crystal) // 2 + 1]
    file = StoredFile("model.json", json.dumps(fit(crystal[chosen])).encode())
    return TrainingDoc(
        **stamp(maker),
        kind=maker.kind,
        seed=seed,
        backend="numpy",
        type_map=maker.type_map,
        steps=1,
        warm_start=False,
        train_errors=errors(file, frames),
        validation_errors=errors(file, held_back) if held_back else None,
        learning_curve=Table({"step": np.array([1])}),
        seconds=0.0,
        model=file,
        checkpoint=file,
    )


def fit(frames: Frames) -> dict[str, Any]:
    """Return sites as fractions of the cell, spring constants in eV/Å² and an energy in eV."""
    assert frames.energies is not None and frames.forces is not None
    sites = (frames.positions @ np.linalg.inv(frames.cells)).mean(axis=0)
    moves = frames.positions - sites @ frames.cells
    symbols = np.array(frames.symbols)
    springs = {}
    for element in sorted(set(frames.symbols)):
        u, f = (array[:, symbols == element] for array in (moves, frames.forces))
        springs[element] = -float(np.sum(u * f) / np.sum(u * u))
    work = 0.5 * np.einsum("n,fnx->f", [springs[s] for s in frames.symbols], moves**2)
    energy = float(np.mean(frames.energies - work))
    return {"sites": sites.tolist(), "springs": springs, "energy": energy}


def predict(models: list[StoredFile], frames: Frames) -> Prediction:
    """Return energies and forces of all models; virials are not known to them and zero."""
    energies, forces = [], []
    for model in (json.loads(file.content) for file in models):
        springs = np.array([model["springs"][symbol] for symbol in frames.symbols])[:, None]
        moves = frames.positions - np.array(model["sites"]) @ frames.cells
        energies.append(model["energy"] + 0.5 * np.sum(springs * moves**2, axis=(1, 2)))
        forces.append(-springs * moves)
    virials = np.zeros((len(models), len(frames), 3, 3))
    return Prediction(np.array(energies), np.array(forces), virials)


def errors(model: StoredFile, frames: list[Frames]) -> Any:
    """Compare one model with labels."""
    return force_errors([predict([model], part) for part in frames], frames)
