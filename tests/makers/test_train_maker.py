from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ionloop.codes.deepmd import Prediction
from ionloop.makers.base import FloorError
from ionloop.makers.train import (
    DeepmdTrainMaker,
    collect_ensemble,
    evaluation,
    previous_checkpoint,
    split,
)
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels, LevelOfTheory
from ionloop.schemas.potential import ForceErrors, StoredFile, TrainingDoc
from ionloop.schemas.table import Table

LEVEL = LevelOfTheory(code="toy", settings={})


def labelled(frames: Frames) -> Frames:
    n = len(frames)
    energies, forces = np.arange(n, dtype=float), np.ones((n, frames.n_atoms, 3))
    return Frames(frames.symbols, frames.positions, frames.cells, energies, forces)


def labels(*frames: Frames) -> Labels:
    return Labels(level=LEVEL, n_requested=1, frames=list(frames))


def training(seed: int) -> TrainingDoc:
    errors = ForceErrors(
        n_frames=1,
        energy_mev_per_atom=1.0,
        force_mev_per_angstrom=1.0,
        force_rms_mev_per_angstrom=1.0,
    )
    return TrainingDoc(
        seed=seed,
        backend="tensorflow",
        type_map=["Au", "Cu"],
        steps=1,
        warm_start=False,
        train_errors=errors,
        learning_curve=Table({}),
        seconds=2.0,
        cores=3,
        model=StoredFile("m.pb", b"m"),
        checkpoint=StoredFile("c.tar", bytes([seed])),
    )


def resolved(value: Any) -> SimpleNamespace:
    return SimpleNamespace(value=value, reference=f"reference to {value and value.seed}")


def test_the_split_is_a_partition_and_stays(gold_copper: Frames) -> None:
    whole = labelled(gold_copper)
    train, held = split([labels(whole)], 0.4)
    ids = [i for part in train for i in part.ids], [i for part in held for i in part.ids]
    assert sorted(ids[0] + ids[1]) == sorted(gold_copper.ids)
    assert ids[1]
    _, held_of_half = split([labels(whole[:6])], 0.4)
    assert {i for part in held_of_half for i in part.ids} <= set(ids[1])


def test_the_ensemble_goes_on_without_a_lost_model() -> None:
    members = [resolved(training(1)), resolved(None), resolved(training(3))]
    ensemble = collect_ensemble.original.__wrapped__(2, [1, 2, 3], members)
    assert ensemble.seeds == [1, 3]
    assert ensemble.failures == ["the training with seed 2 failed"]
    assert ensemble.members == ["reference to 1", "reference to 3"]
    assert ensemble.core_seconds == 12.0


def test_too_few_models_stop_the_turn() -> None:
    with pytest.raises(FloorError, match=r"1 of 2 trainings succeeded.*train\.min_models"):
        collect_ensemble.original.__wrapped__(2, [1, 2], [resolved(training(1)), resolved(None)])


def test_the_next_training_starts_from_its_predecessor_or_a_neighbour() -> None:
    previous: Any = SimpleNamespace(members=[training(7), training(8)])
    assert [previous_checkpoint(previous, n).content for n in (0, 1, 2)] == [b"\7", b"\10", b"\7"]
    assert previous_checkpoint(None, 0) is None


def test_seeds_follow_the_first() -> None:
    flow = DeepmdTrainMaker(n_models=3).make([], seed=10)
    jobs = [job for job in flow.jobs if job.name.startswith("train model")]
    assert [job.function_args[-1] for job in jobs] == [10, 11, 12]
    assert {job.metadata["role"] for job in flow.jobs} == {"train"}


def test_an_evaluation_measures_the_mean_against_labels(gold_copper: Frames) -> None:
    frames = labelled(gold_copper)
    assert frames.energies is not None
    assert frames.forces is not None
    # Two models, 0.1 eV/Å above and 0.3 below in x: the mean is 0.1 off, the deviation 0.2.
    shift = np.array([0.1, -0.3])[:, None, None, None] * np.array([1.0, 0.0, 0.0])
    prediction = Prediction(
        energies=np.stack([frames.energies] * 2),
        forces=frames.forces + shift,
        virials=np.zeros((2, len(frames), 3, 3)),
    )
    document = evaluation([frames], [prediction])
    table = document.deviation_against_error
    assert table["max_devi_f"] == pytest.approx(0.2)
    assert table["max_force_error"] == pytest.approx(0.1)
    assert document.rank_correlation is None
    assert document.errors is not None
    assert document.errors.force_mev_per_angstrom == pytest.approx(100 / np.sqrt(3))
    assert document.errors.energy_mev_per_atom == pytest.approx(0.0)


def test_an_evaluation_of_nothing_is_empty() -> None:
    document = evaluation([], [])
    assert document.errors is None
    assert len(document.deviation_against_error) == 0
