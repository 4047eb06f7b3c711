from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ionloop.export.folder import ExportError, prepare_targets
from ionloop.export.frames import export_dataset, export_poscars
from ionloop.export.models import export_models
from ionloop.formats.reading import read_frames
from ionloop.schemas.dataset import dataset_hash
from ionloop.schemas.frames import concatenate
from ionloop.schemas.label import LabelStatus
from ionloop.stores.connect import collection, open_store

sys.path.insert(0, str(Path(__file__).parents[1] / "monitor"))
from synthetic_run import LEVEL, TYPE_MAP, Writer, whole_run


@pytest.fixture
def store(tmp_path):
    opened = open_store(tmp_path / "run.db")
    yield opened
    opened.close()


@pytest.fixture
def writer(store):
    return whole_run(store, n_turns=3)


def accepted(writer, *iterations):
    return {
        label.frame_id: label.frame
        for label in writer.labels
        if label.status is LabelStatus.ACCEPTED and label.iteration in iterations
    }


@pytest.mark.parametrize(
    ("fmt", "name"),
    [("deepmd/npy", "dataset"), ("deepmd/hdf5", "dataset.hdf5"), ("extxyz", "dataset.extxyz")],
)
def test_the_data_set_comes_back_whole(store, writer, tmp_path, fmt, name):
    folder = tmp_path / "out"
    written = export_dataset(store, "lgps", folder, fmt)
    assert written == [folder / name, folder / "dataset.json"]
    (frames,) = read_frames(folder / name, fmt)
    wanted = accepted(writer, None, 0, 1, 2)
    assert len(frames) == len(wanted)
    np.testing.assert_allclose(
        np.sort(frames.forces.ravel()),
        np.sort(concatenate(wanted.values())[0].forces.ravel()),
        atol=1e-8,
    )
    account = json.loads((folder / "dataset.json").read_text())
    assert account["n_frames"] == len(wanted)
    assert account["level_of_theory"] == "sevennet (model 7net-0)"
    assert account["sha256"] == dataset_hash(LEVEL.hash, list(wanted))


def test_the_data_set_of_an_earlier_turn(store, writer, tmp_path):
    export_dataset(store, "lgps", tmp_path / "out", "deepmd/npy", iteration=0)
    (frames,) = read_frames(tmp_path / "out" / "dataset", "deepmd/npy")
    assert set(frames.ids) == set(accepted(writer, None, 0))


def test_the_split_is_that_of_the_trainings(store, writer, tmp_path):
    export_dataset(store, "lgps", tmp_path / "out", "deepmd/npy", split=True)
    sides = [read_frames(tmp_path / "out" / side)[0] for side in ("training", "validation")]
    dataset = writer.turns[-1].dataset
    assert [set(side.ids) for side in sides] == [set(dataset.training), set(dataset.validation)]


def test_nothing_is_overwritten_unless_told(store, writer, tmp_path):
    export_dataset(store, "lgps", tmp_path, iteration=0)
    with pytest.raises(ExportError, match=r"dataset is there already; .*--force"):
        export_dataset(store, "lgps", tmp_path)
    (frames,) = read_frames(tmp_path / "dataset", "deepmd/npy")
    assert len(frames) == len(accepted(writer, None, 0))
    export_dataset(store, "lgps", tmp_path, force=True)
    (frames,) = read_frames(tmp_path / "dataset", "deepmd/npy")
    assert len(frames) == len(accepted(writer, None, 0, 1, 2))


@pytest.mark.parametrize("strange", ["dataset/mine.txt", "dataset/set.000/mine.npy"])
def test_force_never_removes_what_is_not_of_an_export(store, writer, tmp_path, strange):
    mine = tmp_path / strange
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    for _ in range(2):
        with pytest.raises(ExportError, match=f"{mine} is not of an earlier export: move it"):
            export_dataset(store, "lgps", tmp_path, force=True)
    assert mine.read_text() == "mine"
    shutil.rmtree(tmp_path / "dataset")
    export_dataset(store, "lgps", tmp_path, force=True)
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(ExportError, match="is not of an earlier export"):
        export_dataset(store, "lgps", tmp_path, force=True)
    assert len(read_frames(tmp_path / "dataset", "deepmd/npy")) == 1


def test_a_model_of_another_program_is_not_replaced(store, writer, tmp_path):
    (tmp_path / "potential-0.pb").write_bytes(b"mine")
    (tmp_path / "potential.json").write_text("[]")
    with pytest.raises(ExportError, match="is not of an earlier export"):
        export_models(store, "lgps", tmp_path, force=True)
    assert (tmp_path / "potential-0.pb").read_bytes() == b"mine"


def test_force_replaces_all_that_the_export_wrote(store, writer, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    export_models(store, "lgps", tmp_path, iteration=1)
    export_dataset(store, "lgps", tmp_path, split=True)
    export_models(store, "lgps", tmp_path, force=True)
    export_dataset(store, "lgps", tmp_path, "extxyz", force=True)
    names = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("run.db"))
    assert names == [
        *("dataset.extxyz", "dataset.json", "mine.txt", "potential-0.pb", "potential.json")
    ]


def test_what_cannot_be_exported_is_said(store, writer, tmp_path):
    with pytest.raises(ExportError, match="no turn 7; it has 0, 1, 2"):
        export_dataset(store, "lgps", tmp_path, iteration=7)
    with pytest.raises(ExportError, match="'poscar'; choose one of deepmd/npy"):
        export_dataset(store, "lgps", tmp_path, "poscar")
    collection(store, "labels").remove_docs({"label_id": writer.labels[0].label_id})
    with pytest.raises(ExportError, match=r"1 of 53 labels .* not in the store any more"):
        export_dataset(store, "lgps", tmp_path)


def test_the_production_potential_and_where_it_comes_from(store, writer, tmp_path):
    written = export_models(store, "lgps", tmp_path / "out")
    assert [path.name for path in written] == ["potential-0.pb", "potential.json"]
    assert written[0].read_bytes() == writer.models[-1]
    account = json.loads(written[1].read_text())
    assert account["type_map"] == TYPE_MAP
    assert account["iteration"] == "production"
    assert account["level_of_theory"] == LEVEL.description
    assert account["validation"]["force_mev_per_angstrom"] == 110
    (model,) = account["models"]
    assert model["sha256"] == hashlib.sha256(writer.models[-1]).hexdigest()
    assert model["train_errors"]["force_mev_per_angstrom"] == 90


def test_the_ensemble_of_a_turn(store, writer, tmp_path):
    written = export_models(store, "lgps", tmp_path, iteration=1)
    assert [path.read_bytes() for path in written[:2]] == writer.models[2:4]
    account = json.loads(written[-1].read_text())
    assert (account["iteration"], account["validation"]) == (1, None)
    with pytest.raises(ExportError, match=r"potential-0.pb is there already"):
        export_models(store, "lgps", tmp_path)
    with pytest.raises(ExportError, match="no ensemble of turn 8"):
        export_models(store, "lgps", tmp_path / "other", iteration=8)


def test_before_the_end_there_is_no_production_potential(store, tmp_path):
    unfinished = Writer(store, "lgps")
    unfinished.begin()
    with pytest.raises(ExportError, match="no finished turn"):
        export_dataset(store, "lgps", tmp_path)
    unfinished.turn(0, 0.5)
    with pytest.raises(ExportError, match="no production potential yet; name a turn"):
        export_models(store, "lgps", tmp_path)


def test_poscars_of_candidates_picked_or_not(store, writer, tmp_path):
    frames = writer.candidates[1]
    chosen = [frames.ids[0], frames.ids[-1], ""]
    written = export_poscars(store, "lgps", chosen, tmp_path / "out")
    assert len(written) == 2
    back = concatenate(part for path in written for part in read_frames(path))
    np.testing.assert_allclose(
        np.sort(back[0].positions[:, 0, 0]), np.sort(frames.positions[[0, -1], 0, 0]), atol=1e-9
    )
    with pytest.raises(ExportError, match=r"out is not empty; choose another one$"):
        export_poscars(store, "lgps", chosen, tmp_path / "out")


def test_frames_that_stayed_behind_cannot_be_written(store, writer, tmp_path):
    with pytest.raises(ExportError, match="candidates only"):
        export_poscars(store, "lgps", ["", ""], tmp_path / "out")


def test_a_file_is_replaced_only_with_force(tmp_path):
    path = tmp_path / "new" / "learning.png"
    prepare_targets([path], force=False)
    path.write_text("x")
    with pytest.raises(ExportError, match=r"learning.png is there already"):
        prepare_targets([path], force=False)
    prepare_targets([path], force=True)
    assert not path.exists()
