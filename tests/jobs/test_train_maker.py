from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ionloop.codes.common.prediction import Prediction
from ionloop.codes.common.training import TrainingError
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.engines.local.runner import LocalRunner
from ionloop.jobs.roles import FloorError
from ionloop.jobs.train import members
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.jobs.train.ensemble import collect_ensemble, kept, previous_checkpoint
from ionloop.jobs.train.evaluation import evaluation
from ionloop.jobs.train.members import train_in
from ionloop.jobs.train.split import groups, split
from ionloop.schemas.dataset import is_validation
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels, LevelOfTheory
from ionloop.schemas.potential import (
    EnsembleDoc,
    ForceErrors,
    LostTraining,
    StoredFile,
    TrainingDoc,
)
from ionloop.schemas.table import Table
from ionloop.stores.connect import open_store

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


def ensemble_of(*members: TrainingDoc, n_asked: int, **changes: Any) -> EnsembleDoc:
    seeds = [member.seed for member in members]
    return EnsembleDoc(n_asked=n_asked, members=list(members), seeds=seeds, **changes)


def test_the_split_is_a_partition_and_stays(gold_copper: Frames) -> None:
    whole = labelled(gold_copper)
    train, held = split([labels(whole)], 0.4)
    ids = [i for part in train for i in part.ids], [i for part in held for i in part.ids]
    assert sorted(ids[0] + ids[1]) == sorted(gold_copper.ids)
    assert ids[1]
    _, held_of_half = split([labels(whole[:6])], 0.4)
    assert {i for part in held_of_half for i in part.ids} <= set(ids[1])


def test_frames_of_one_trajectory_stand_on_one_side(gold_copper: Frames) -> None:
    groups = tuple(f"trajectory {number % 4}" for number in range(12))
    whole = replace(labelled(gold_copper), groups=groups)
    train, held = split([labels(whole)], 0.5)
    sides = [{name for part in side for name in part.origins} for side in (train, held)]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == set(groups)
    assert all(sides)


def test_a_frame_that_comes_again_in_another_group_keeps_its_side(gold_copper: Frames) -> None:
    fraction = 0.5
    names = [str(number) for number in range(20)]
    held = next(name for name in names if is_validation(name, fraction))
    free = next(name for name in names if not is_validation(name, fraction))
    first, again = (labelled(gold_copper).of_group(name) for name in (free, held))
    train, kept_back = split([labels(first), labels(again)], fraction)
    assert (sum(map(len, train)), kept_back) == (24, [])


def test_one_trajectory_that_is_held_back_whole_leaves_a_clear_sentence(
    gold_copper: Frames,
) -> None:
    name = next(name for name in map(str, range(20)) if is_validation(name, 0.5))
    with pytest.raises(ValueError, match=r"all 12 frames are held back.*validation_fraction"):
        split([labels(labelled(gold_copper).of_group(name))], 0.5)


def test_the_ensemble_goes_on_without_a_lost_model() -> None:
    members = [resolved(training(1)), resolved(None), resolved(training(3))]
    ensemble = collect_ensemble.original.__wrapped__(2, [1, 2, 3], members)
    assert (ensemble.seeds, ensemble.numbers) == ([1, 3], [0, 2])
    assert ensemble.failures == ["the training of model 2 with seed 2 failed"]
    assert ensemble.notes == []
    assert ensemble.members == ["reference to 1", "reference to 3"]
    assert ensemble.core_seconds == 12.0


def test_too_few_models_stop_the_turn() -> None:
    with pytest.raises(FloorError, match=r"1 of 2 trainings succeeded.*train\.min_models"):
        collect_ensemble.original.__wrapped__(2, [1, 2], [resolved(training(1)), resolved(None)])


def starts(previous: EnsembleDoc | None, n_models: int) -> list[int | None]:
    """Return the seed of the model that each model starts from, None for a start from scratch."""
    found = [previous_checkpoint(previous, number, n_models) for number in range(n_models)]
    return [checkpoint.content[0] if checkpoint else None for checkpoint in found]


def test_after_a_lost_training_no_two_members_start_from_one_checkpoint() -> None:
    previous = ensemble_of(training(7), training(9), n_asked=3, numbers=[0, 2])
    assert starts(previous, 3) == [7, None, 9]
    assert starts(previous, 4) == [7, None, 9, None]
    assert starts(None, 3) == [None, None, None]


def test_a_model_trained_alone_starts_from_its_own_or_from_the_first_there_is() -> None:
    assert starts(ensemble_of(training(7), training(9), n_asked=3, numbers=[0, 2]), 1) == [7]
    assert starts(ensemble_of(training(8), training(9), n_asked=3, numbers=[1, 2]), 1) == [8]


@pytest.mark.parametrize(
    ("failures", "n_asked", "expected"),
    [
        ([], 2, [7, 9]),
        (["the training with seed 8 failed"], 3, [7, None, 9]),
        (["the training with seed 10 failed: no"], 3, [7, 9, None]),
        (["the training with seed 8 failed: with seed 5 failed"], 4, [None] * 4),
        ([], 3, [None] * 3),
    ],
)
def test_ensembles_stored_without_numbers_are_matched_as_far_as_it_is_certain(
    failures: list[str], n_asked: int, expected: list[int | None]
) -> None:
    written = {"failures": failures, "schema_version": 1}
    previous = ensemble_of(training(7), training(9), n_asked=n_asked, **written)
    assert starts(previous, n_asked) == expected


def test_models_that_had_to_start_from_scratch_are_named() -> None:
    from_scratch = {"obstacle": "the last ensemble has no such model"}
    members = [training(1), training(2).model_copy(update=from_scratch), training(3)]
    ensemble = collect_ensemble.original.__wrapped__(2, [1, 2, 3], list(map(resolved, members)))
    sentence = "started from scratch: the last ensemble has no such model"
    assert ensemble.notes == [f"model 2 of this training {sentence}"]


def test_seeds_follow_the_first() -> None:
    flow = DeepmdTrainMaker(n_models=3).make([], seed=10)
    jobs = [job for job in flow.jobs if job.name.startswith("train model")]
    assert [job.function_args[-1] for job in jobs] == [[10], [11], [12]]  # type: ignore[union-attr]
    assert {job.metadata["role"] for job in flow.jobs} == {"train"}


@given(st.integers(1, 12), st.integers(1, 14), st.integers(0, 2**31))
def test_groups_divide_the_ensemble(n_models: int, size: int, seed: int) -> None:
    seeds = [seed + number for number in range(n_models)]
    divided = groups(seeds, size)
    members = [item for group in divided for item in group.items()]
    assert members == list(enumerate(seeds))
    assert all(len(group) == size for group in divided[:-1])
    assert 1 <= len(divided[-1]) <= size


def test_models_that_share_a_gpu_share_a_job() -> None:
    *jobs, ensemble = DeepmdTrainMaker(n_models=5, per_gpu=2, cores=3).make([], seed=10).jobs
    names = ["train models 1 to 2 of 5", "train models 3 to 4 of 5", "train model 5 of 5"]
    assert [job.name for job in jobs] == names
    assert [job.metadata["cores"] for job in jobs] == [6, 6, 3]
    assert [job.function_args[-1] for job in jobs] == [[10, 11], [12, 13], [14]]  # type: ignore[union-attr]
    outputs = ensemble.function_args[-1]  # type: ignore[union-attr]
    assert [(o.uuid, o.attributes) for o in outputs] == [
        *((job.uuid, (("i", position),)) for job in jobs[:2] for position in (0, 1)),
        (jobs[2].uuid, (("i", 0),)),
    ]


def test_a_job_trains_a_list_of_seeds_or_as_version_0_1_entered_it_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def train_in(folder: Path, maker: Any, dataset: Any, previous: Any, n: int, seed: int) -> Any:
        asked.append((folder.relative_to(tmp_path).as_posix(), n))
        return training(seed)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(members, "train_in", train_in)
    run = members.train_members.original
    assert run(DeepmdTrainMaker(), [], None, 2, 7).seed == 7
    assert [each.seed for each in run(DeepmdTrainMaker(), [], None, [2], [7])] == [7]
    assert [each.seed for each in run(DeepmdTrainMaker(), [], None, [0, 1], [5, 6])] == [5, 6]
    assert sorted(asked) == [(".", 2), (".", 2), ("model-0", 0), ("model-1", 1)]


def test_an_ensemble_is_of_the_kind_of_its_models() -> None:
    members = [resolved(training(seed).model_copy(update={"kind": "other"})) for seed in (1, 2)]
    assert collect_ensemble.original.__wrapped__(2, [1, 2], members).kind == "other"
    assert training(1).kind == "deepmd"  # what version 0.1 stored does not say its kind


def test_a_failed_training_does_not_take_its_neighbours_with_it() -> None:
    lost = TrainingError("it broke down\nThe end of train.log: ...")
    outcomes = kept([training(1), lost, training(3)], [1, 2, 3])
    assert outcomes[1] == LostTraining(seed=2, reason=str(lost))
    members = [resolved(outcome) for outcome in outcomes]
    ensemble = collect_ensemble.original.__wrapped__(2, [1, 2, 3], members)
    assert ensemble.numbers == [0, 2]
    assert ensemble.failures == ["the training of model 2 with seed 2 failed: it broke down"]
    with pytest.raises(TrainingError, match="it broke down"):
        kept([lost, lost], [1, 2])


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("dp") is None, reason="DeePMD-kit is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorflow")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:google")
def test_trainings_side_by_side(gold_copper: Frames, tmp_path: Path) -> None:
    """Two trainings at once, one of which is asked to crash; the other is as if alone."""
    program = tmp_path / "dp"
    program.write_text(CRASHES_FOR_SEED_4)
    settings = SMALL.model_copy(update={"command": f"sh {program}"})
    maker = DeepmdTrainMaker(
        settings=settings, type_map=["Au", "Cu"], n_models=2, min_models=1, per_gpu=2
    )
    data = [labels(labelled(gold_copper))]
    flow = maker.make(data, seed=4)
    url, both = str(tmp_path / "run.db"), {"BOTH": str(tmp_path / "both")}
    runner = LocalRunner(store_url=url, scratch=tmp_path / "scratch", cores=2, env=both)
    assert runner.run(flow, "r").ok
    store = open_store(url)
    ensemble = flow.output.resolve(store)
    store.close()
    assert (ensemble.seeds, len(ensemble.failures)) == ([5], 1)
    assert ensemble.failures[0].startswith("the training of model 1 with seed 4 failed: ")
    (member,) = ensemble.members
    assert (member.steps, member.member) == (40, 1)
    alone = train_in(tmp_path / "alone", maker, data, None, 1, 5)
    assert member.train_errors == alone.train_errors
    assert (tmp_path / "both").exists()
    # What outlived its worker is removed when the result is in the store.
    assert not list((tmp_path / "scratch/r/unfinished").iterdir())


# Each waits for the other to begin: one after the other they would wait in vain.
CRASHES_FOR_SEED_4 = """\
case "$*" in
  *train*)
    for i in $(seq 100); do
      if [ -e ../model-0/input.json ] && [ -e ../model-1/input.json ]; then
        touch $BOTH
        break
      fi
      case "$PWD" in *alone) break ;; esac
      sleep 0.1
    done
    if grep -q '"seed": 4' input.json; then echo "asked to crash"; exit 1; fi ;;
esac
exec dp "$@"
"""
SMALL = DeepmdSettings(
    rcut=3.0,
    rcut_smth=1.0,
    neurons=[2, 4],
    axis_neurons=2,
    fitting=[8, 8],
    steps=40,
    disp_every=20,
)


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
