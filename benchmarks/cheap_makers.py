"""Makers whose labels, models and frames take no time, so that ionloop's own time is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jobflow import Flow, Job

from ionloop.codes.common.acceptance import Calculated, Terms, accept
from ionloop.codes.common.prediction import Prediction
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.jobs.documents import stamp, stored_job
from ionloop.jobs.explore.accounts import collect_exploration
from ionloop.jobs.label.batches import BatchLabelMaker
from ionloop.jobs.label.record import LabelBatch, by_id, record_labels
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.roles import ExploreMaker, Reference, TrainMaker
from ionloop.jobs.train.ensemble import collect_ensemble
from ionloop.jobs.train.evaluation import evaluation
from ionloop.schemas.exploration import ExplorationPart, Stage, TrajectoryDoc
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, Labels, LevelOfTheory
from ionloop.schemas.potential import (
    EnsembleDoc,
    EvaluationDoc,
    ForceErrors,
    StoredFile,
    TrainingDoc,
)
from ionloop.schemas.selection import TrustWindow
from ionloop.schemas.table import Table
from selection import deviations_of, synthetic

KIND = "random bytes"
N_MODELS = 4
MODEL_BYTES = 1_000_000
ERRORS = ForceErrors(
    n_frames=1,
    energy_mev_per_atom=1.0,
    force_mev_per_angstrom=100.0,
    force_rms_mev_per_angstrom=800.0,
)


@dataclass
class CheapLabelMaker(BatchLabelMaker):
    """Labels every frame with the same forces; all other steps are real."""

    @property
    def level(self) -> LevelOfTheory:
        """The level of theory of the labels."""
        return LevelOfTheory(code="cheap", settings={})

    def batch(self, frames: Reference, frame_ids: list[str]) -> Job:
        """Return the job that labels the frames with the given ids."""
        return assign(label_cheaply(self.level, frames, frame_ids), Role.LABEL, "label")

    def relax(self, frames: Reference) -> Job:
        """Refuse: this labeller does not relax."""
        raise NotImplementedError


@stored_job(LabelBatch, expose_store=True)
def label_cheaply(level: LevelOfTheory, frames: list[Frames], frame_ids: list[str]) -> LabelBatch:
    """Label frames one by one and record each label at once."""
    limits = ForceFieldSettings().limits

    def calculate(frame: Frames) -> LabelDoc:
        forces = np.random.default_rng(0).normal(0, 1, (frame.n_atoms, 3))
        return accept(frame, Calculated(0.0, forces - forces.mean(0), None), level, limits)

    n_calculated = record_labels(by_id(frames, frame_ids), Terms(level=level), calculate)
    return LabelBatch(**stamp(), frame_ids=frame_ids, n_calculated=n_calculated)


@dataclass
class CheapTrainMaker(TrainMaker):
    """Reads the data set and returns random bytes as a model."""

    kind: ClassVar[str] = KIND

    def make(self, dataset: Reference, previous: Reference = None, seed: int = 0) -> Flow:
        """Train on a list of `Labels`; the output is an `EnsembleDoc`."""
        seeds = [seed + number for number in range(N_MODELS)]
        members = [assign(train_cheaply(dataset, seed), Role.TRAIN, "train") for seed in seeds]
        outputs = [member.output for member in members]
        ensemble = assign(collect_ensemble(2, seeds, outputs), Role.TRAIN, "collect ensemble")
        return Flow([*members, ensemble], output=ensemble.output)

    def evaluate(self, ensemble: Reference, labels: Reference) -> Job:
        """Compare an ensemble with `Labels`; the output is an `EvaluationDoc`."""
        return assign(evaluate_cheaply(ensemble, labels), Role.EVALUATE, "evaluate")


@stored_job(TrainingDoc)
def train_cheaply(dataset: list[Labels], seed: int) -> TrainingDoc:
    """Invent a model."""
    model = StoredFile("model.pb", np.random.default_rng(seed).bytes(MODEL_BYTES))
    return TrainingDoc(
        **stamp(),
        kind=KIND,
        seed=seed,
        backend="none",
        type_map=["Li", "Ge", "P", "S"],
        steps=0,
        warm_start=False,
        train_errors=ERRORS,
        learning_curve=Table({"step": np.arange(100)}),
        seconds=0.0,
        model=model,
        checkpoint=model,
    )


@stored_job(EvaluationDoc)
def evaluate_cheaply(ensemble: EnsembleDoc, labels: Labels) -> EvaluationDoc:
    """Compare labels with invented predictions."""
    return evaluation(labels.frames, list(map(_predict, labels.frames))).model_copy(update=stamp())


def _predict(frames: Frames) -> Prediction:
    rng = np.random.default_rng(1)
    forces = frames.forces + rng.normal(0, 0.1, (N_MODELS, *frames.forces.shape))
    energies, virials = np.zeros((N_MODELS, len(frames))), np.zeros((N_MODELS, len(frames), 3, 3))
    return Prediction(energies, forces, virials)


@dataclass
class CheapExploreMaker(ExploreMaker):
    """Invents frames, all of them candidates.

    Parameters
    ----------
    n_candidates
        Frames of one turn.
    """

    drives: ClassVar[frozenset[str]] = frozenset({KIND})

    n_candidates: int = 300

    def make(
        self,
        ensemble: Reference,
        stage: Stage,
        structures: Reference,
        trust: TrustWindow,
        seed: int = 0,
        previous: Reference = None,
    ) -> Flow:
        """Run a stage; the output is an `ExplorationDoc`."""
        part = assign(explore_cheaply(self.n_candidates, seed), Role.EXPLORE, "explore")
        asked = [_trajectory(self.n_candidates, seed)]
        collect = collect_exploration(0.5, stage, trust, asked, [part.output])
        assign(collect, Role.EXPLORE, "collect exploration")
        return Flow([part, collect], output=collect.output)


@stored_job(ExplorationPart)
def explore_cheaply(n_candidates: int, seed: int) -> ExplorationPart:
    """Invent an exploration."""
    frames = synthetic(n_candidates, seed).snapped()
    return ExplorationPart(
        **stamp(),
        trajectories=[_trajectory(n_candidates, seed)],
        deviations=deviations_of(n_candidates),
        candidates=[frames],
        final_frames=[],
    )


def _trajectory(n_frames: int, seed: int) -> TrajectoryDoc:
    return TrajectoryDoc(
        index=0,
        temperature=300.0,
        pressure=1.0,
        seed=seed,
        start_id="none",
        steps_asked=n_frames,
        steps_done=n_frames,
        n_frames=n_frames,
        finished=True,
    )
