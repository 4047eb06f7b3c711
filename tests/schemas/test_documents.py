"""The stored documents: units, unknown fields, files, windows, the split."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from ionloop.schemas.dataset import (
    STRETCH,
    DatasetDoc,
    dataset_hash,
    held_back,
    in_stretches,
    is_validation,
)
from ionloop.schemas.distillation import DistillationDoc, RoundDoc
from ionloop.schemas.document import Document
from ionloop.schemas.exploration import ExplorationDoc, ExplorationPart, Stage
from ionloop.schemas.frames import Frames
from ionloop.schemas.iteration import IterationDoc
from ionloop.schemas.label import (
    LabelDoc,
    Labels,
    LabelStatus,
    LevelOfTheory,
    Rejection,
    RejectReason,
)
from ionloop.schemas.potential import EnsembleDoc, ForceErrors, StoredFile, TrainingDoc
from ionloop.schemas.run import RunDoc, SummaryDoc, ValidationDoc
from ionloop.schemas.selection import SelectionDoc, TrustWindow, VerdictCounts

DOCUMENTS = [
    DatasetDoc,
    DistillationDoc,
    EnsembleDoc,
    ExplorationDoc,
    ExplorationPart,
    IterationDoc,
    LabelDoc,
    Labels,
    RoundDoc,
    RunDoc,
    SelectionDoc,
    SummaryDoc,
    TrainingDoc,
    ValidationDoc,
]
PHYSICAL: list[tuple[type[BaseModel], str, str]] = [
    (LabelDoc, "energy", "eV"),
    (LabelDoc, "seconds", "s"),
    (SummaryDoc, "core_hours", "core h"),
    (TrustWindow, "low", "eV/Å"),
    (TrustWindow, "v_high", "eV/atom"),
    (Stage, "timestep", "fs"),
    (Stage, "temperatures", "K"),
    (Stage, "pressures", "bar"),
    (ForceErrors, "energy_mev_per_atom", "meV/atom"),
    (ForceErrors, "force_mev_per_angstrom", "meV/Å"),
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_refuse_unknown_fields(document):
    assert document.model_json_schema()["additionalProperties"] is False
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        document(no_such_field=1)


@pytest.mark.parametrize(("model", "field", "unit"), PHYSICAL)
def test_json_schemas_have_units(model, field, unit):
    schema = model.model_json_schema()["properties"][field]
    assert f'"unit": "{unit}"' in json.dumps(schema, ensure_ascii=False)


def test_documents_are_frozen():
    document = Document(run="r")
    with pytest.raises(ValidationError, match="frozen"):
        document.run = "other"  # type: ignore[misc]


def test_label_document_round_trip():
    frame = Frames(("Li", "S"), np.zeros((1, 2, 3)), np.eye(3)[None] * 5)
    document = LabelDoc(
        frame_id=frame.ids[0],
        level="abc",
        status=LabelStatus.REJECTED,
        reason=RejectReason.OUTLIER,
        species=["Li", "S"],
        n_atoms=2,
        frame=frame,
    )
    stored = json.loads(document.model_dump_json())
    assert stored["label_id"] == f"{frame.ids[0]}-abc"
    assert stored["likeness"].startswith("Li1 S1 ")
    assert LabelDoc.from_stored(stored) == document


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ({"low": 0.3, "high": 0.1}, "low \\(0.3\\) must be below high \\(0.1\\)"),
        ({"low": 0.1, "high": 0.1}, "must be below"),
        ({"low": 0.0, "high": 0.1}, "greater than 0"),
        ({"low": 0.1, "high": 0.3, "v_low": 1.0}, "together"),
        ({"low": 0.1, "high": 0.3, "v_low": 2.0, "v_high": 1.0}, "v_low \\(2.0\\)"),
    ],
)
def test_trust_levels_out_of_order_are_refused(window, words):
    with pytest.raises(ValidationError, match=words):
        TrustWindow(**window)


def test_trust_window_as_pairs():
    assert TrustWindow(low=0.1, high=0.3).f == (0.1, 0.3)
    assert TrustWindow(low=0.1, high=0.3).v is None
    assert TrustWindow(low=0.1, high=0.3, v_low=1, v_high=2).v == (1.0, 2.0)


def test_accurate_fraction_leaves_skipped_frames_out():
    assert VerdictCounts(accurate=3, candidate=1, failed=2, skipped=10).accurate_fraction == 0.5
    assert VerdictCounts(skipped=10).accurate_fraction == 0.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dump_every": 200}, "dump_every"),
        ({"skip": 101}, "skip"),
        ({"dump_every": 70, "skip": 71}, "skip"),
        ({"temperatures": []}, "temperatures"),
        ({"timestep": 0}, "timestep"),
    ],
)
def test_impossible_stages_are_refused(change, words):
    with pytest.raises(ValidationError, match=words):
        Stage(**({"temperatures": [300], "steps": 100} | change))


def test_stage_conditions_are_all_combinations():
    stage = Stage(temperatures=[300, 500], pressures=[1, 1000], steps=100)
    assert stage.conditions == [(300, 1), (300, 1000), (500, 1), (500, 1000)]


@given(st.binary(max_size=100))
def test_stored_file_round_trip(content):
    file = StoredFile("model.pb", content)
    stored = json.loads(json.dumps(file.as_dict()))
    assert stored["sha256"] == hashlib.sha256(content).hexdigest()
    assert StoredFile.from_dict(stored) == file


def test_stored_file_on_disk(tmp_path):
    file = StoredFile("model.pb", bytes(range(256)))
    assert StoredFile.read(file.write(tmp_path)) == file
    assert file.write(tmp_path, "other.pb").read_bytes() == file.content


def test_level_hash_tells_settings_not_their_order():
    level = LevelOfTheory(code="sevennet", settings={"model": "7net-0", "version": "1"})
    reordered = LevelOfTheory(code="sevennet", settings={"version": "1", "model": "7net-0"})
    other = LevelOfTheory(code="sevennet", settings={"model": "7net-l3i5", "version": "1"})
    assert level.hash == reordered.hash != other.hash
    assert len(level.hash) == 12
    assert level.description == "sevennet (model 7net-0, version 1)"


def test_only_verdicts_on_results_are_final():
    final = {reason.value for reason in RejectReason if reason.is_final}
    assert final == {"unconverged", "misshaped", "non-finite", "outlier", "other level"}


def test_rejections_are_counted_by_reason():
    rejections = [Rejection(frame_id=i, reason=RejectReason.OUTLIER) for i in "ab"]
    rejections.append(Rejection(frame_id="c", reason=RejectReason.UNCONVERGED))
    level = LevelOfTheory(code="x", settings={})
    labels = Labels(level=level, n_requested=3, rejections=rejections)
    assert labels.rejected_by_reason == {"outlier": 2, "unconverged": 1}


@given(st.sets(st.text(max_size=24)), st.sets(st.text(max_size=24)), st.floats(0, 1))
def test_adding_frames_never_moves_one_over_the_split(old, new, fraction):
    def validation(ids):
        return {i for i in ids if is_validation(i, fraction)}

    assert validation(old | new) & old == validation(old)


@given(st.text(max_size=24), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_fraction_only_adds_to_validation(frame_id, a, b):
    low, high = sorted([a, b])
    assert not is_validation(frame_id, low) or is_validation(frame_id, high)


def test_the_split_has_the_fraction_asked_for():
    held = sum(is_validation(f"{i:024x}", 0.1) for i in range(20_000))
    assert held == pytest.approx(2000, abs=150)
    assert not any(is_validation(str(i), 0.0) for i in range(1000))
    assert all(is_validation(str(i), 1.0) for i in range(1000))


def frames_in_a_row(n):
    positions = np.random.default_rng(0).uniform(0, 5, (n, 1, 3))
    return Frames(("Li",), positions, np.tile(5 * np.eye(3), (n, 1, 1)))


def test_a_single_file_is_split_by_stretches_of_frames():
    frames = in_stretches(frames_in_a_row(1000))
    held = held_back([frames], 0.05)
    assert 0 < len(held) < 200
    sides = [frame_id in held for frame_id in frames.ids]
    neighbours_apart = sum(a != b for a, b in pairwise(sides))
    assert neighbours_apart <= 2 * len(held) / STRETCH + 1
    assert in_stretches(frames[:990]).groups == frames.groups[:990]


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=30), st.floats(0, 1))
def test_groups_are_split_whole_and_for_good(groups, fraction):
    frames = replace(frames_in_a_row(len(groups)), groups=tuple(groups))
    held = held_back([frames], fraction)
    assert held == {
        i for i, g in zip(frames.ids, groups, strict=True) if is_validation(g, fraction)
    }
    early = held_back([frames[: len(frames) // 2]], fraction)
    assert early == held & set(frames.ids[: len(frames) // 2])


def test_dataset_hash_ignores_order_and_tells_levels():
    assert dataset_hash("a", ["x", "y"]) == dataset_hash("a", ["y", "x"])
    assert dataset_hash("a", ["x", "y"]) != dataset_hash("b", ["x", "y"])


def test_level_of_a_frame_holds_only_the_elements_of_the_frame() -> None:
    settings = {"xc": "PBE"}
    lithium = {"Li": {"setup": "paw"}}
    with_dopant = LevelOfTheory(
        code="gpaw", settings=settings, elements={**lithium, "Ti": {"setup": "4"}}
    )
    without = LevelOfTheory(code="gpaw", settings=settings, elements=lithium)

    assert with_dopant.of(["Li", "F"]).hash == without.of(["Li", "F"]).hash
    assert with_dopant.of(["Li", "Ti"]).hash != without.of(["Li", "Ti"]).hash
    assert with_dopant.of(["F"]).hash == LevelOfTheory(code="gpaw", settings=settings).hash
    assert "Ti 4" in with_dopant.description
