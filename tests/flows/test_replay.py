"""The published frames of Huang et al. (2021) come in whole, and a DeePMD ensemble learns them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobflow import Flow, JobStore

from ionloop.engines.local.runner import LocalRunner
from ionloop.jobs.label.imports import ingest
from ionloop.preflight.check import check
from ionloop.runfile.model import RunFile, read
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, Labels, LabelStatus
from ionloop.schemas.potential import EnsembleDoc
from ionloop.stores.connect import collection, open_store

HERE = Path(__file__).parent
N_FRAMES = 590


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the labeller importable, here and in the jobs; return the published frames."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=":")
    import replay_labeller

    folder = replay_labeller.data_folder() / "init"
    if not folder.is_dir():
        pytest.skip(f"the published frames are not in {folder}; name them by IONLOOP_TEST_DATA")
    yield folder
    del sys.modules["replay_labeller"]


@pytest.fixture
def run_file(data: Path) -> RunFile:
    initial = {"path": str(data), "type_map": ["Li", "Ge", "P", "S"], "same_level": True}
    return RunFile.model_validate(
        {
            "structures": [HERE.parents[1] / "examples/lgps/LGPS.vasp"],
            "initial": {"n_perturbed": 0, "data": [initial]},
            "label": {"model": "replay_labeller:ReplayLabeller", "batch_size": 200},
            "train": {
                "n_models": 2,
                "rcut": 5.0,
                "neurons": [8, 16],
                "axis_neurons": 4,
                "fitting": [32, 32],
                "learning_rate_start": 5.0e-3,
                "learning_rate_stop": 1.0e-4,
                "steps": 600,
            },
        }
    )


def entry(run_file: RunFile) -> Any:
    """Return the flow that enters the initial data."""
    (known,) = run_file.initial.data
    job = ingest([known.path], known.format, known.type_map, run_file.label.maker().level)
    return Flow([job], output=job.output)


def published(run_file: RunFile) -> Frames:
    (frames,) = read(run_file.initial.data[0])
    return frames


def run(flow: Flow, folder: Path) -> Any:
    """Run a flow on the store in `folder` and return its output."""
    url = str(folder / "a.db")
    environment = {"TOY_LOG": str(folder / "log")}
    runner = LocalRunner(store_url=url, scratch=folder / "scratch", cores=2, env=environment)
    summary = runner.run(flow, flow.uuid)
    assert summary.ok, summary.message
    return resolved(flow, url)


def resolved(flow: Flow, url: str) -> Any:
    store = open_store(url)
    try:
        return flow.output.resolve(store)
    finally:
        store.close()


def labels(folder: Path) -> list[LabelDoc]:
    store: JobStore = open_store(folder / "a.db")
    try:
        return [LabelDoc.from_stored(d) for d in collection(store, "labels").query()]
    finally:
        store.close()


def test_every_published_frame_is_a_label_and_asked_for_again_costs_nothing(
    run_file: RunFile, tmp_path: Path
) -> None:
    frames = published(run_file)
    assert len(frames) == len(set(frames.ids)) == N_FRAMES
    entered: Labels = run(entry(run_file), tmp_path)
    assert (entered.n_requested, entered.n_accepted) == (N_FRAMES, N_FRAMES)
    answer: Labels = run(run_file.label.maker().make([frames.unlabelled()]), tmp_path)
    assert (answer.n_requested, answer.n_accepted, answer.n_reused) == (N_FRAMES,) * 3
    stored = labels(tmp_path)
    assert {label.frame_id for label in stored} == set(frames.ids)
    assert {label.status for label in stored} == {LabelStatus.ACCEPTED}
    assert not (tmp_path / "log").exists()
    (back,) = answer.frames
    assert back.ids == frames.ids
    np.testing.assert_array_equal(back.forces, frames.forces)
    np.testing.assert_array_equal(back.energies, frames.energies)


def test_labels_looked_up_equal_those_read(run_file: RunFile, tmp_path: Path) -> None:
    asked = published(run_file)[::59]
    answer: Labels = run(run_file.label.maker().make([asked.unlabelled()]), tmp_path)
    assert (answer.n_accepted, answer.n_reused) == (10, 0)
    assert sorted((tmp_path / "log").read_text().split()) == sorted(asked.ids)
    (found,) = answer.frames
    assert found.ids == asked.ids
    np.testing.assert_allclose(found.forces, asked.forces, atol=1e-9)


@pytest.mark.integration
def test_an_ensemble_learns_the_published_frames(run_file: RunFile, tmp_path: Path) -> None:
    report = check(run_file.with_store(str(tmp_path / "a.db")))
    assert [f.sentence for f in report.errors if f.key.startswith("initial")] == []
    known = entry(run_file)
    train = run_file.train.maker(run_file.types()).make([known.output], None, 1)
    ensemble: EnsembleDoc = run(Flow([known, train], output=train.output), tmp_path)
    assert ensemble.seeds == [1, 2]
    for seed, errors in zip(ensemble.seeds, ensemble.validation_errors, strict=True):
        force, size = errors.force_mev_per_angstrom, errors.force_rms_mev_per_angstrom
        sys.stdout.write(f"seed {seed}: force RMSE {force:.0f} of RMS {size:.0f} meV/Å\n")
        assert force < 0.6 * size
    assert (
        sum(errors.n_frames for errors in ensemble.train_errors)
        + sum(errors.n_frames for errors in ensemble.validation_errors)
        == 2 * N_FRAMES
    )
