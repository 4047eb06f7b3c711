"""What every store of ionloop does: maggma's contract, and what jobflow asks of it."""

from __future__ import annotations

import base64
import math
import os
import pickle
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from jobflow import Flow, Response, job, run_locally
from maggma.core import Sort
from monty.json import MontyDecoder
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from ionloop.stores.connect import collection, open_store
from ionloop.stores.errors import StoreError

# jobflow 0.4 changes folders by monty's deprecated cd.
pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")

MONGO = os.environ.get("IONLOOP_TEST_MONGO_URI")
needs_server = [
    pytest.mark.integration,
    pytest.mark.skipif(MONGO is None, reason="IONLOOP_TEST_MONGO_URI is not set"),
]


@pytest.fixture(params=["embedded", pytest.param("mongodb", marks=needs_server)])
def url(request, tmp_path):
    if request.param == "embedded":
        yield str(tmp_path / "run.db")
        return
    database = f"ionloop_test_{uuid4().hex[:12]}"
    yield f"{MONGO}/{database}"
    with MongoClient(MONGO) as client:
        client.drop_database(database)


@pytest.fixture
def jobs(url):
    store = open_store(url)
    yield store
    store.close()


@pytest.fixture
def store(jobs):
    return jobs.docs_store


@pytest.fixture
def labels(jobs):
    return collection(jobs, "labels")


def plain(docs):
    return [{name: value for name, value in doc.items() if name != "_id"} for doc in docs]


def doc(uuid, index=1, **more):
    return {"uuid": uuid, "index": index, **more}


# Without criteria a server only estimates a number from its statistics.
EVERYTHING = {"uuid": {"$exists": True}}

FRAMES = [
    doc("a", n=1, tags=["x", "y"], metadata={"run": "r1", "iteration": 0}, energy=-1.5),
    doc("b", n=2, tags=["y"], metadata={"run": "r1", "iteration": 1}, energy=None),
    doc("c", n=3, tags=[], metadata={"run": "r2", "iteration": 0}, parts=[{"p": 1}, {"p": 5}]),
    doc("d", n=4, metadata={"run": "r2", "iteration": 10}, energy=2.5, parts=[{"p": 3, "q": 1}]),
    doc("e", n=5, tags="x", metadata={}, ok=True, energy="low"),
]


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        ({}, "abcde"),
        (None, "abcde"),
        ({"uuid": "c"}, "c"),
        ({"uuid": "c", "index": 2}, ""),
        ({"n": {"$in": [1, 4.0, 9]}}, "ad"),
        ({"uuid": {"$in": ["a", "e"]}}, "ae"),
        ({"uuid": {"$in": []}}, ""),
        ({"uuid": {"$nin": ["a", "e"]}}, "bcd"),
        ({"uuid": {"$gt": "b", "$lte": "d"}}, "cd"),
        ({"metadata.run": "r1", "n": {"$gte": 2}}, "b"),
        ({"metadata.iteration": {"$lt": 10}}, "abc"),
        ({"metadata.iteration": {"$gt": "r"}}, ""),
        ({"metadata.run": {"$ne": "r1"}}, "cde"),
        ({"metadata.run": None}, "e"),
        ({"metadata.run": {"$exists": False}}, "e"),
        ({"energy": None}, "bc"),
        ({"energy": {"$exists": True}}, "abde"),
        ({"energy": {"$lt": 0}}, "a"),
        ({"tags": "x"}, "ae"),
        ({"tags": ["y"]}, "b"),
        ({"tags": {"$size": 0}}, "c"),
        ({"tags": {"$all": ["x", "y"]}}, "a"),
        ({"parts": {"$elemMatch": {"p": {"$gt": 2}, "q": 1}}}, "d"),
        ({"parts.p": {"$gte": 5}}, "c"),
        ({"uuid": {"$regex": "^[AB]$", "$options": "i"}}, "ab"),
        ({"uuid": re.compile("^[cd]")}, "cd"),
        ({"uuid": {"$not": {"$in": ["a", "b"]}}}, "cde"),
        ({"$or": [{"uuid": "a"}, {"metadata.run": "r2"}]}, "acd"),
        ({"$or": [{"uuid": "a"}, {"n": 3}]}, "ac"),
        ({"$and": [{"metadata.run": "r2"}, {"$or": [{"uuid": "a"}, {"n": 3}]}]}, "c"),
        ({"$nor": [{"uuid": "a"}, {"n": 3}]}, "bde"),
        ({"ok": True}, "e"),
    ],
)
def test_filters(store, criteria, found):
    store.update(FRAMES)
    assert "".join(sorted(d["uuid"] for d in store.query(criteria))) == found
    if criteria:
        assert store.count(criteria) == len(found)


def test_indexed_field_that_holds_an_array(store):
    runs = ["r1", ["r1", "r2"], None, {"name": "r1"}]
    store.update([doc(str(i), metadata={"run": run}) for i, run in enumerate(runs)])
    assert [d["uuid"] for d in store.query({"metadata.run": "r1"}, sort={"uuid": 1})] == ["0", "1"]
    assert store.count({"metadata.run": {"$in": ["r2"]}}) == 1
    assert store.count({"metadata.run": {"name": "r1"}}) == 1


def test_values_come_back_as_they_were(store):
    value = {
        "float": 0.1 + 0.2,
        "large": 2**53 + 1,
        "nan": math.nan,
        "infinity": math.inf,
        "none": None,
        "true": True,
        "bytes": b"\x00\xff",
        "text": "Å ∂ \x01",
        "time": datetime(2026, 3, 4, 5, 6, 7, 123000),
        "nested": [{"a": [[1, 2], []]}, {}],
    }
    store.update(doc("a", output=value))
    found = store.query_one({"uuid": "a"})["output"]
    assert math.isnan(found.pop("nan"))
    assert math.isnan(value.pop("nan"))  # type: ignore[arg-type]
    assert found == value
    assert isinstance(found["true"], bool)


def test_tuples_and_numpy_become_lists_and_numbers(store):
    store.update(doc("a", output={"t": (1, 2), "a": np.arange(3), "s": np.int64(7)}))
    assert store.query_one({"uuid": "a"})["output"] == {"t": [1, 2], "a": [0, 1, 2], "s": 7}
    assert store.count({"output.s": 7}) == 1


def test_times_are_utc_and_comparable(store):
    at = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=9)))
    store.ensure_index("at")
    store.update([doc("a", at=at), doc("b", at=datetime(2026, 1, 2)), doc("c", at="2026")])
    assert store.query_one({"uuid": "a"})["at"] == datetime(2026, 1, 1, 3)
    assert [d["uuid"] for d in store.query({"at": {"$lt": datetime(2026, 1, 2)}})] == ["a"]
    assert store.count({"at": datetime(2026, 1, 1, 3, tzinfo=UTC)}) == 1


def test_sort_skip_limit(store):
    store.update(FRAMES)
    by = {"metadata.run": -1, "n": Sort.Descending}
    assert [d["uuid"] for d in store.query(sort=by)] == ["d", "c", "b", "a", "e"]
    assert [d["uuid"] for d in store.query(sort={"uuid": -1}, skip=1, limit=2)] == ["d", "c"]
    assert [d["uuid"] for d in store.query({"n": {"$gt": 1}}, sort={"n": 1}, limit=1)] == ["b"]
    assert [d["uuid"] for d in store.query(sort={"metadata.iteration": 1, "uuid": 1})] == [
        "e",
        "a",
        "c",
        "b",
        "d",
    ]


def test_sort_orders_types_as_mongodb(store):
    values = ["text", 3, None, True, datetime(2026, 1, 1), -2.5]
    store.update([doc(str(i), metadata={"run": v}) for i, v in enumerate(values)])
    found = [d["metadata"]["run"] for d in store.query(sort={"metadata.run": 1})]
    assert found == [None, -2.5, 3, "text", True, datetime(2026, 1, 1)]


@pytest.mark.parametrize(
    ("properties", "kept"),
    [
        (["n"], {"n": 3}),
        (["metadata.run", "nothing"], {"metadata": {"run": "r2"}}),
        (["parts.p", "uuid"], {"uuid": "c", "parts": [{"p": 1}, {"p": 5}]}),
        (["parts.z"], {"parts": [{}, {}]}),
        (["uuid.x"], {}),
        ({"n": 1, "_id": 0}, {"n": 3}),
        (
            {"metadata.run": 0, "parts.p": 0, "tags": 0},
            {"uuid": "c", "index": 1, "n": 3, "metadata": {"iteration": 0}, "parts": [{}, {}]},
        ),
        ([], FRAMES[2]),
        ({"_id": 0}, FRAMES[2]),
    ],
)
def test_projection(store, properties, kept):
    store.update(FRAMES)
    assert plain(store.query({"uuid": "c"}, properties=properties)) == [kept]


def test_query_one(store):
    store.update([doc("a", i, v=i) for i in range(3)], key=["uuid", "index"])
    assert store.query_one({"uuid": "a"}, sort={"index": -1})["v"] == 2
    assert store.query_one({"uuid": "a"}, properties=["v"], sort={"index": 1})["v"] == 0
    assert store.query_one({"uuid": "none"}) is None


def test_update_replaces_the_document_with_the_same_key(store):
    store.update([doc("a", v=1, old=1), doc("b", v=1)])
    store.update([doc("a", v=2), doc("c", v=2)])
    assert plain(store.query(sort={"uuid": 1})) == [doc("a", v=2), doc("b", v=1), doc("c", v=2)]
    store.update(doc("new", v=1), key="v")
    assert store.count({"uuid": "b"}) == 0
    assert store.count(EVERYTHING) == 3


def test_update_by_uuid_and_index(store):
    store.update([doc("a", i, v=0) for i in (1, 2, 3)], key=["uuid", "index"])
    store.update([doc("a", 2, v=5), doc("a", 4, v=5)], key=["uuid", "index"])
    assert [d["v"] for d in store.query(sort={"index": 1})] == [0, 5, 0, 5]


def test_last_of_two_in_one_update_wins(labels):
    labels.update([{"label_id": "x", "v": 1}, {"label_id": "x", "v": 2}])
    assert [d["v"] for d in labels.query()] == [2]


def test_remove(store):
    store.update(FRAMES)
    store.remove_docs({"metadata.run": "r1"})
    store.remove_docs({"n": {"$gt": 4}})
    assert sorted(store.distinct("uuid")) == ["c", "d"]
    store.remove_docs({})
    assert store.count(EVERYTHING) == 0


def test_distinct(store):
    store.update(FRAMES)
    assert sorted(store.distinct("metadata.run")) == ["r1", "r2"]
    assert sorted(store.distinct("tags")) == ["x", "y"]
    assert sorted(store.distinct("parts.p", {"uuid": {"$ne": "d"}})) == [1, 5]
    assert store.distinct("nothing") == []


def test_groupby(store):
    store.update(FRAMES)
    groups = list(store.groupby("metadata.run", criteria={"n": {"$lt": 5}}))
    found = {key["metadata"]["run"]: {d["uuid"] for d in docs} for key, docs in groups}
    assert found == {"r1": {"a", "b"}, "r2": {"c", "d"}}
    pairs = store.groupby(["metadata.run", "metadata.iteration"], properties=["n"])
    assert len(list(pairs)) == 5


def test_ensure_index_on_documents_already_there(store):
    store.update(FRAMES)
    assert store.ensure_index("n")
    assert store.ensure_index("n")
    assert [d["uuid"] for d in store.query({"n": {"$in": [2, 5]}}, sort={"n": 1})] == ["b", "e"]


def test_unique_index(store):
    assert store.ensure_index("name", unique=True)
    store.update(doc("a", name="one"))
    with pytest.raises((StoreError, PyMongoError)):
        store.update(doc("b", name="one"))
    store.update(doc("a", name="one", v=2))
    assert [d["uuid"] for d in store.query()] == ["a"]
    store.update(doc("b", name="two", n=1))
    store.update(doc("c", name="three", n=1))
    assert not store.ensure_index("n", unique=True)


def test_outputs_are_unique_by_uuid_and_index(store):
    store.update([doc("a", 1, v=1), doc("b", 1, v=2)])
    with pytest.raises((StoreError, PyMongoError)):
        store.update(doc("a", 1, v=3), key="v")
    assert store.count(EVERYTHING) == 2


def test_last_updated_and_newer_in(jobs):
    old, new = collection(jobs, "labels"), collection(jobs, "jobs")
    assert old.last_updated == datetime.min
    day = datetime(2026, 1, 1)
    old.key = new.key = "label_id"
    later = day + timedelta(days=1)
    old.update([{"label_id": n, "job_id": n, "last_updated": day} for n in "ab"])
    new.update([{"label_id": n, "job_id": n, "last_updated": later} for n in "bc"])
    assert old.last_updated == day
    assert sorted(old.newer_in(new)) == ["b", "c"]
    assert sorted(old.newer_in(new, exhaustive=True)) == ["b", "c"]


def test_closed_store_keeps_its_documents(jobs, url):
    jobs.update(doc("a", output=1))
    jobs.close()
    jobs.connect()
    assert jobs.count({"uuid": "a"}) == 1
    again = open_store(url)
    assert again.get_output("a") == 1
    again.close()


@pytest.mark.parametrize(
    "copy", [lambda s: pickle.loads(pickle.dumps(s)), lambda s: MontyDecoder().decode(s.to_json())]
)
def test_copies_reach_the_same_documents(jobs, copy):
    collection(jobs, "labels").update({"label_id": "x", "v": 1})
    other = copy(jobs)
    other.connect()
    assert type(other) is type(jobs)
    assert collection(other, "labels").key == "label_id"
    assert collection(other, "data").key == "blob_uuid"
    collection(other, "labels").update({"label_id": "x", "v": 2})
    other.close()
    assert [d["v"] for d in collection(jobs, "labels").query()] == [2]


def test_blobs(jobs):
    packed = base64.b64encode(os.urandom(300_000)).decode()
    blobs = [
        {"blob_uuid": f"b{i}", "data": {"x": packed, "i": i}, "job_uuid": f"j{i}", "job_index": 1}
        for i in range(3)
    ]
    store = collection(jobs, "data")
    store.update(blobs, key="blob_uuid")
    store.update(blobs[0], key="blob_uuid")
    assert store.count({"blob_uuid": {"$exists": True}}) == 3
    wanted = store.query({"blob_uuid": {"$in": ["b0", "b2"]}}, properties=["blob_uuid", "data"])
    assert {b["blob_uuid"]: b["data"] for b in wanted} == {
        "b0": blobs[0]["data"],
        "b2": blobs[2]["data"],
    }
    assert store.query_one({"job_uuid": "j1", "job_index": 1})["data"]["i"] == 1
    store.remove_docs({"job_uuid": "j1", "job_index": 1})
    assert sorted(store.distinct("blob_uuid")) == ["b0", "b2"]


@job(data="packed")
def pack(count):
    return {"packed": {"values": list(range(count))}, "count": count}


@job
def add_up(output):
    return sum(output["packed"]["values"])


@job(data="packed")
def shrink(count):
    if count > 8:
        turn = shrink(count - 1)
        return Response(replace=Flow([turn], output=turn.output))
    return {"packed": [count], "count": count}


def test_jobflow_round_trip(jobs):
    first = pack(5)
    second = add_up(first.output)
    replies = run_locally(Flow([first, second]), store=jobs, ensure_success=True, log=False)
    assert replies[second.uuid][1].output == 10
    assert jobs.get_output(second.uuid) == 10
    assert jobs.get_output(first.uuid, load=True)["packed"] == {"values": [0, 1, 2, 3, 4]}
    assert "blob_uuid" in jobs.get_output(first.uuid)["packed"]
    assert collection(jobs, "data").count({"job_uuid": first.uuid}) == 1
    jobs.remove_docs({"uuid": first.uuid})
    assert collection(jobs, "data").count({"job_uuid": first.uuid}) == 0
    assert jobs.count(EVERYTHING) == 1


def test_jobflow_dynamic_loop(jobs):
    loop = shrink(10)
    run_locally(loop, store=jobs, ensure_success=True, log=False)
    assert jobs.get_output(loop.uuid, load=True) == {"packed": [8], "count": 8}
    pairs = list(jobs.groupby(["uuid", "index"]))
    assert len(pairs) == jobs.count(EVERYTHING) == 5


def test_removing_outputs_spares_labels(jobs):
    jobs.update(doc("a", output=1))
    collection(jobs, "labels").update({"label_id": "x", "job_uuid": "a", "job_index": 1})
    jobs.remove_docs({"uuid": "a"})
    assert jobs.count(EVERYTHING) == 0
    assert collection(jobs, "labels").count({"label_id": "x"}) == 1


def test_several_writing_processes(url):
    command = [sys.executable, str(Path(__file__).with_name("store_writer.py")), "upsert", url]
    writers = [subprocess.Popen([*command, name, "40"]) for name in ("r1", "r2", "r3")]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    store = open_store(url)
    labels = collection(store, "labels")
    own = {"label_id": {"$ne": "shared"}}
    assert [labels.count({"run": run, **own}) for run in ("r1", "r2", "r3")] == [40, 40, 40]
    assert labels.count({"label_id": "shared"}) == 1
    store.close()
