from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maggma.core.validator import Validator
from maggma.stores import MemoryStore

from ionloop.stores.connect import open_store
from ionloop.stores.errors import StoreError
from ionloop.stores.sqlite import SqliteStore

WRITER = Path(__file__).with_name("store_writer.py")


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "run.db", "outputs", indexed=["metadata.run", "n"])
    store.connect()
    yield store
    store.close()


@contextmanager
def running(*arguments):
    command = [sys.executable, str(WRITER), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


NAN = float("nan")

# 0, 1 and booleans never meet: the in-memory store takes True for 1, which MongoDB does not.
SCALARS = [
    *(None, True, False),
    *(2, 3, 3.5, -4, 2**60, float("inf"), NAN),
    *("", "a", "b", "é"),
    *(datetime(1960, 1, 1), datetime(2026, 1, 1)),
]
ARRAYS = [[], [2], ["a", 3], [None], [[2]], [True, datetime(2026, 1, 1)], {"x": 2}, {}]
scalars = st.sampled_from([value for value in SCALARS if value is not NAN])
fields = st.sampled_from(["n", "m", "metadata.run"])
comparisons = st.sampled_from(["$gt", "$gte", "$lt", "$lte"])
ordered = scalars.filter(lambda value: value is not None and not isinstance(value, bool))
tests = st.one_of(
    scalars,
    st.builds(lambda items: {"$in": items}, st.lists(scalars, max_size=3)),
    st.builds(lambda items: {"$nin": items}, st.lists(scalars, max_size=3)),
    st.builds(lambda value: {"$ne": value}, scalars),
    st.builds(lambda there: {"$exists": there}, st.booleans()),
    st.dictionaries(comparisons, ordered, min_size=1, max_size=2),
)
filters = st.recursive(
    st.dictionaries(fields, tests, max_size=2),
    lambda inner: st.builds(
        lambda word, parts: {word: parts},
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    path = tmp_path_factory.mktemp("pair") / "run.db"
    pair = SqliteStore(path, "outputs", indexed=["metadata.run", "n"]), MemoryStore(key="uuid")
    for store in pair:
        store.connect()
    yield pair
    for store in pair:
        store.close()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    store = SqliteStore(tmp_path_factory.mktemp("scratch") / "run.db", "outputs", indexed=["n"])
    store.connect()
    yield store
    store.close()


@pytest.fixture(scope="module")
def corpus(pair):
    shifted = [*SCALARS, *ARRAYS]
    docs = [{"uuid": "none"}, {"uuid": "empty", "metadata": {}}]
    for i, value in enumerate(shifted):
        docs.append({"uuid": str(i), "n": value, "m": shifted[i - 1], "metadata": {"run": value}})
        docs.append({"uuid": f"{i} once", "metadata": {"run": shifted[i - 2]}})
    for store in pair:
        store.update(docs)
    return pair


@settings(max_examples=500, deadline=None)
@given(criteria=filters, way=st.sampled_from([1, -1]))
def test_finds_what_the_in_memory_store_finds(corpus, criteria, way):
    found = []
    for store in corpus:
        uuids = [doc["uuid"] for doc in store.query(criteria, sort={"uuid": way})]
        assert store.count(criteria) == len(uuids)
        found.append(uuids)
    assert found[0] == found[1]


@settings(max_examples=100, deadline=None)
@given(docs=st.lists(st.fixed_dictionaries({"n": scalars, "m": scalars}), max_size=6))
@pytest.mark.parametrize("way", [1, -1])
def test_sorts_a_column_as_any_field(scratch, docs, way):
    store = scratch
    store.remove_docs({})
    store.update([{"uuid": str(i), "n": d["n"], "copy": d["n"]} for i, d in enumerate(docs)])
    by_column = [doc["uuid"] for doc in store.query(sort={"n": way, "uuid": 1})]
    assert by_column == [doc["uuid"] for doc in store.query(sort={"copy": way, "uuid": 1})]


@settings(max_examples=100, deadline=None)
@given(st.recursive(scalars | st.binary(max_size=4) | st.floats(allow_nan=False), st.lists))
def test_round_trip(scratch, value):
    scratch.update({"uuid": "a", "output": value})
    assert scratch.query_one({"uuid": "a"})["output"] == value


def test_several_collections_share_a_file(store):
    other = SqliteStore(store.path, 'odd "name"', key="k")
    other.connect()
    other.update([{"k": 1}, {"k": 2}])
    store.update({"uuid": "a"})
    assert (store.count(), other.count()) == (1, 2)
    other.close()


def test_filters_on_indexes_use_them(store):
    plan = store.file.rows(
        'EXPLAIN QUERY PLAN SELECT id FROM "outputs" WHERE "field:n" IN (?, x\'\')', [1]
    )
    assert "USING COVERING INDEX outputs.n" in plan[0][3]
    store.update([{"uuid": "a", "index": i} for i in range(3)], key=["uuid", "index"])
    where = '"field:uuid" = ? AND "field:index" = ?'
    plan = store.file.rows(f'EXPLAIN QUERY PLAN SELECT id FROM "outputs" WHERE {where}', ["a", 1])
    assert "outputs.uuid+index (field:uuid=? AND field:index=?)" in plan[0][3]


def test_index_added_by_another_process_is_filled(store, tmp_path):
    other = SqliteStore(tmp_path / "run.db", "outputs")
    other.connect()
    store.update({"uuid": "a", "later": 2})
    other.ensure_index("later")
    store.update({"uuid": "b", "later": 3})
    assert [doc["uuid"] for doc in other.query({"later": {"$gte": 2}})] == ["a", "b"]
    other.close()


def test_a_failing_update_writes_nothing(store):
    with pytest.raises(StoreError, match="no usable value of its key 'uuid'"):
        store.update([{"uuid": "a"}, {"index": 1}])
    with pytest.raises(StoreError, match="cannot be stored"):
        store.update([{"uuid": "a"}, {"uuid": "b", "n": 2**70}])
    with pytest.raises(StoreError, match="no usable value"):
        store.update({"uuid": ["a"]})
    assert store.count() == 0


def test_update_while_reading(store):
    store.update([{"uuid": str(i), "n": 0} for i in range(100)])
    other = SqliteStore(store.path, "outputs")
    other.connect()
    for doc in store.query({"n": 0}):
        other.update({"uuid": "new", "n": int(doc["uuid"]) + 1})
        store.update(doc | {"n": 1})
    assert store.count({"n": 1}) == 100
    other.close()


def test_threads_share_a_store(store):
    def write(name):
        for i in range(50):
            store.update({"uuid": f"{name}-{i}", "metadata": {"run": name}})
            assert store.count({"metadata.run": name}) == i + 1

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count() == 150


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # threads of other tests
def test_forked_child_opens_its_own_connection(store):
    store.update({"uuid": "parent"})
    child = os.fork()
    if child == 0:
        try:
            store.update({"uuid": "child"})
            os._exit(0 if store.count() == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    store.update({"uuid": "parent again"})
    assert sorted(store.distinct("uuid")) == ["child", "parent", "parent again"]


def test_validator(tmp_path):
    class HasOutput(Validator):
        strict = False

        def is_valid(self, doc):
            return "output" in doc

        def validation_errors(self, doc):
            return ["no output"]

    store = SqliteStore(tmp_path / "run.db", "outputs", validator=HasOutput())
    store.connect()
    store.update([{"uuid": "a"}, {"uuid": "b", "output": 1}])
    assert store.distinct("uuid") == ["b"]
    store.validator.strict = True  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="no output"):
        store.update({"uuid": "a"})
    store.close()


def test_kill_in_mid_update_leaves_whole_updates(tmp_path):
    path, size = tmp_path / "run.db", 200
    said = -1
    for seed in range(3):
        with running("batches", path, size) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(random.Random(seed).uniform(0.05, 0.3))
            process.kill()
            written = process.stdout.read().split()
        store = open_store(path)
        said = max(said, *map(int, written), -1)
        sizes = {key["batch"]: len(docs) for key, docs in store.docs_store.groupby("batch")}
        store.close()
        assert set(sizes.values()) <= {size}
        assert set(range(said + 1)) <= set(sizes)
    assert said >= 0
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_waits_for_a_file_locked_by_another_process(tmp_path):
    open_store(tmp_path / "run.db").close()
    with running("hold", tmp_path / "run.db", 3) as holder:
        assert holder.stdout.readline() == "held\n"
        start = time.monotonic()
        store = open_store(tmp_path / "run.db")
        assert store.count() == 0
        assert time.monotonic() - start < 1  # readers do not wait
        store.update({"uuid": "a", "index": 1})
        assert 2 < time.monotonic() - start < 10
    assert store.count() == 1
    store.close()


def test_says_so_when_the_file_stays_locked(tmp_path):
    store = SqliteStore(tmp_path / "run.db", "outputs", timeout=0.2)
    store.connect()
    with running("hold", store.path, 30) as holder:
        holder.stdout.readline()
        with pytest.raises(StoreError, match=r"run\.db.*locked.*Another process holds the file"):
            store.update({"uuid": "a"})
    store.update({"uuid": "a"})
    assert store.count() == 1
    store.close()


def test_says_so_when_the_disk_is_full(store):
    store.file._link.connection.execute("PRAGMA max_page_count = 40")
    with pytest.raises(StoreError, match=r"full.*Free some disk space"):
        store.update({"uuid": "a", "output": b"x" * 1_000_000})
    assert store.count() == 0


def test_needs_to_be_connected(tmp_path):
    with pytest.raises(StoreError, match=r"call connect\(\) first"):
        SqliteStore(tmp_path / "run.db", "outputs").count()


def test_unsupported_projection_is_refused(store):
    store.update({"uuid": "a", "l": [1, 2]})
    with pytest.raises(StoreError, match="use ones or zeros"):
        list(store.query(properties={"l": {"$slice": 1}}))
