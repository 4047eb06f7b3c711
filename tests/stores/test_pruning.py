"""What nothing needs any more is found and removed; everything else stays."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient

from ionloop.export.models import export_models
from ionloop.schemas.potential import EnsembleDoc, TrainingDoc
from ionloop.schemas.process import identity
from ionloop.stores.connect import LoopStore, blob_sizes, collection, open_store
from ionloop.stores.contents import UNUSED, blobs_of, contents
from ionloop.stores.errors import StoreError
from ionloop.stores.pruning import (
    Ensemble,
    RunningError,
    find_removable,
    is_at_work,
    removable,
    remove,
    replaced,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "monitor"))
from synthetic_run import Writer, whole_run

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")

MONGO = os.environ.get("IONLOOP_TEST_MONGO_URI")
SERVER = pytest.param(
    "mongodb",
    marks=[
        pytest.mark.integration,
        pytest.mark.skipif(MONGO is None, reason="IONLOOP_TEST_MONGO_URI is not set"),
    ],
)
HEAVY = 400_000


@pytest.fixture(params=["embedded", SERVER])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "embedded":
        yield str(tmp_path / "ionloop.db")
        return
    database = f"ionloop_test_{uuid4().hex[:12]}"
    yield f"{MONGO}/{database}"
    with MongoClient(MONGO) as client:
        client.drop_database(database)


@pytest.fixture
def opened(url: str) -> Any:
    with closing(open_store(url)) as store:
        yield store


def whole(run: str, *turns: int | None) -> list[Ensemble]:
    return [Ensemble(run, turn, 4, 4) for turn in turns]


def test_a_turn_is_replaced_by_the_next_one_that_is_whole() -> None:
    assert replaced(whole("r", 0, 1, 2), ended=()) == {("r", 0), ("r", 1)}
    assert replaced(whole("r", 0), ended=()) == set()


def test_a_missing_model_may_still_start_from_the_turn_before() -> None:
    ensembles = [*whole("r", 0, 1, 3), Ensemble("r", 2, n_asked=4, n_models=3)]
    assert replaced(ensembles, ended=()) == {("r", 0), ("r", 2)}


def test_the_last_turn_is_needed_until_the_run_has_ended_with_a_whole_production() -> None:
    ensembles = whole("r", 0, 1, None)
    assert replaced(ensembles, ended=()) == {("r", 0)}
    assert replaced(ensembles, ended={"r"}) == {("r", 0), ("r", 1)}
    lacking = [*whole("r", 0, 1), Ensemble("r", None, n_asked=4, n_models=3)]
    assert replaced(lacking, ended={"r"}) == {("r", 0)}
    assert replaced(whole("r", 0, 1), ended={"r"}) == {("r", 0)}


def test_runs_are_looked_at_one_by_one() -> None:
    ensembles = [*whole("a", 0), *whole("b", 1), *whole("c", 0, None)]
    assert replaced(ensembles, ended={"a", "b", "c"}) == {("c", 0)}


@given(
    st.lists(
        st.builds(
            Ensemble,
            st.sampled_from("ab"),
            st.none() | st.integers(0, 4),
            st.just(2),
            st.integers(0, 2),
        )
    ),
    st.sets(st.sampled_from("ab")),
)
def test_the_newest_training_of_a_run_that_goes_on_is_never_replaced(
    ensembles: list[Ensemble], ended: set[str]
) -> None:
    found = replaced(ensembles, ended)
    for run in {each.run for each in ensembles} - ended:
        turns = [each.turn for each in ensembles if each.run == run and each.turn is not None]
        assert not turns or (run, max(turns)) not in found
    assert replaced(ensembles, ()) <= found
    assert all(turn is not None for _, turn in found)


def training(run: str, turn: int | None, *blobs: str) -> dict[str, Any]:
    """Return a stored job's output: one training, or several that shared the job."""
    parts = [
        {
            "@class": "TrainingDoc",
            "model": {"@class": "StoredFile", "packed": {"blob_uuid": f"m{blob}"}},
            "checkpoint": {"@class": "StoredFile", "packed": {"blob_uuid": blob}},
        }
        for blob in blobs
    ]
    where = {"metadata": {"run": run, "iteration": turn}, "uuid": f"u{blobs[0]}", "index": 1}
    return {**where, "output": parts[0] if len(parts) == 1 else parts}


def ensemble(run: str, turn: int | None, n: int) -> dict[str, Any]:
    output = {"@class": "EnsembleDoc", "n_asked": n, "members": [{}] * n}
    return {"metadata": {"run": run, "iteration": turn}, "output": output}


def test_checkpoints_of_trainings_that_shared_a_job_are_found() -> None:
    stored = [
        *(training("r", 0, "a", "b"), training("r", 1, "c")),
        *(ensemble("r", 0, 2), ensemble("r", 1, 1)),
    ]
    sizes = {"a": 5, "b": 6, "c": 7, "ma": 1, "mb": 1, "mc": 1}
    found = removable(stored, sizes, ended=())
    assert (found.outputs, found.checkpoints, found.unused) == ([("ua", 1)], {"a": 5, "b": 6}, {})
    assert found.size == 11


def test_what_the_journal_or_another_document_refers_to_stays() -> None:
    stored = [training("r", 0, "a"), ensemble("r", 0, 1), ensemble("r", 1, 1)]
    other = {"output": {"part": [{"packed": {"blob_uuid": "a"}}]}}
    held = {"held": [{"documents": [{"output": {"packed": {"blob_uuid": "new"}}}]}]}
    found = removable([*stored, other, held], {"a": 5, "ma": 1, "new": 2, "old": 3}, ended=())
    assert (found.checkpoints, found.unused) == ({}, {"old": 3})


def test_outputs_without_a_run_are_left_alone() -> None:
    stored = [training("", 0, "a"), ensemble("", 0, 1), ensemble("", 1, 1)]
    assert removable(stored, {"a": 5, "ma": 1}, ended=()).size == 0


def test_a_blob_is_named_by_what_it_holds() -> None:
    document = training("r", 0, "a") | {"more": {"@class": "Frames", "packed": {"blob_uuid": "f"}}}
    assert dict(blobs_of(document)) == {"a": "checkpoints", "ma": "models", "f": "frames"}


def test_a_finished_run_is_pruned_and_exported(opened: LoopStore, tmp_path: Path) -> None:
    written = whole_run(opened, n_turns=3)
    labels = sorted(each["label_id"] for each in collection(opened, "labels").query())
    before = {share.kind: share.n for share in contents(opened).shares if share.run == "lgps"}
    found = find_removable(opened)
    assert len(found.checkpoints) == 6  # of three turns; those of the production stay
    remove(opened, found)
    assert find_removable(opened).size == 0
    after = {share.kind: share.n for share in contents(opened).shares if share.run == "lgps"}
    assert after == before | {"checkpoints": before["checkpoints"] - 6}
    assert sorted(each["label_id"] for each in collection(opened, "labels").query()) == labels
    for turn in (0, 2, None):
        files = export_models(opened, "lgps", tmp_path / str(turn), turn)
        models = {path.read_bytes() for path in files if path.suffix == ".pb"}
        assert models <= {*written.models} and len(models) == (1 if turn is None else 2)


def test_the_newest_ensemble_keeps_what_a_training_starts_from(opened: LoopStore) -> None:
    writer = Writer(opened, "lgps")
    writer.begin()
    references = [writer.ensemble(turn, 50.0) for turn in range(3)]
    remove(opened, find_removable(opened))
    old, _, new = (reference.resolve(opened) for reference in references)
    assert isinstance(new, EnsembleDoc)
    assert [member.checkpoint for member in old.members] == [None, None]
    assert [member.checkpoint.content for member in new.members] == [b"heavy"] * 2


def test_a_pruned_training_is_read(opened: LoopStore) -> None:
    writer = Writer(opened, "lgps")
    writer.begin()
    for turn in range(2):
        writer.ensemble(turn, 50.0)
    remove(opened, find_removable(opened))
    criteria = {"output.@class": "TrainingDoc"}
    found = [TrainingDoc.from_stored(d["output"]) for d in opened.query(criteria, load=True)]
    assert [member.checkpoint is None for member in found].count(True) == 2
    assert all(member.model.content.startswith(b"model") for member in found)


def test_blobs_that_nothing_refers_to_are_removed(opened: LoopStore) -> None:
    lost = {"blob_uuid": "lost", "job_uuid": "gone", "job_index": 1, "data": {"x": "y" * 1000}}
    collection(opened, "data").update([lost])
    assert [share.n for share in contents(opened).shares if share.kind == UNUSED] == [1]
    found = find_removable(opened)
    assert list(found.unused) == ["lost"] and found.unused["lost"] >= 1000
    remove(opened, found)
    assert blob_sizes(opened) == {}


def test_the_file_shrinks_beside_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "ionloop.db"
    with closing(open_store(path)) as store, closing(open_store(path, read_only=True)) as reader:
        assert reader.count({}) == 0
        blobs = [
            {"blob_uuid": str(n), "job_uuid": "j", "job_index": 1, "data": os.urandom(HEAVY)}
            for n in range(5)
        ]
        collection(store, "data").update(blobs)
        before = contents(store).file_size
        remove(store, find_removable(store))
        after = contents(store)
        assert before > 5 * HEAVY > 10 * after.file_size
        assert after.free == 0
        assert reader.count({}) == 0
    assert path.stat().st_size < HEAVY


def test_what_was_removed_is_said_where_the_file_cannot_shrink(tmp_path: Path) -> None:
    path = tmp_path / "ionloop.db"
    with closing(open_store(path)) as store:
        blob = {"blob_uuid": "b", "job_uuid": "j", "job_index": 1, "data": {}}
        collection(store, "data").update([blob])
        found = find_removable(store)
        store.docs_store.file._link.connection.execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            remove_docs = collection(store, "data").remove_docs

            def and_lock(criteria: dict[str, Any]) -> None:
                remove_docs(criteria)
                other.execute("BEGIN IMMEDIATE")

            collection(store, "data").remove_docs = and_lock  # type: ignore[method-assign]
            with pytest.raises(StoreError, match="it was removed, but the file does not get sm"):
                remove(store, found)
        assert blob_sizes(store) == {}


def test_nothing_is_removed_while_a_run_is_at_work(opened: LoopStore) -> None:
    writer = whole_run(opened, n_turns=2)
    runs = collection(opened, "runs")
    document = runs.query_one({"run": "lgps"})
    runs.update(document | {"runner": identity()}, key="run")
    with pytest.raises(RunningError, match=r"run 'lgps' is at work .*cancelled"):
        remove(opened, find_removable(opened))
    assert find_removable(opened).size > 0
    runs.update(document | {"runner": None}, key="run")
    remove(opened, find_removable(opened))
    assert writer.models


@pytest.mark.parametrize(
    ("changes", "ended", "expected"),
    [
        ({}, False, False),
        ({"runner": {**identity(), "pid": 2**22 + 1}}, False, False),
        ({"runner": identity()}, True, True),
        ({"run_file": {"runner": "fireworks"}}, False, True),
        ({"run_file": {"runner": "fireworks"}}, True, False),
        ({"run_file": {"runner": "remote"}, "state": "cancelled"}, False, False),
    ],
)
def test_a_run_is_at_work_while_its_process_lives_or_its_queue_has_it(
    changes: dict[str, Any], ended: bool, expected: bool
) -> None:
    run = {"run": "r", "state": "running", "run_file": {"runner": "local"}} | changes
    assert is_at_work(run, ended) is expected
