"""Writes to a server that others write to at the same moment, or that goes away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WriteError,
)

from ionloop.stores import server
from ionloop.stores.connect import collection, open_store
from ionloop.stores.server import NotIndexedError, persistent

MONGO = os.environ.get("IONLOOP_TEST_MONGO_URI")

DEADLOCK = WriteError("deadlock detected", 1)
FULL = {"index": 0, "code": 1, "errmsg": "deadlock detected"}


@pytest.fixture
def url() -> Iterator[str]:
    if MONGO is None:
        pytest.skip("IONLOOP_TEST_MONGO_URI is not set")
    name = f"ionloop_test_{uuid4().hex[:12]}"
    yield f"{MONGO}/{name}"
    with MongoClient[dict[str, Any]](MONGO) as client:
        client.drop_database(name)


def breaking(error: Exception, times: int) -> Callable[[], str]:
    left = [error] * times

    def action() -> str:
        if left:
            raise left.pop()
        return "done"

    return action


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PAUSE", 0.0)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "error",
    [
        DEADLOCK,
        OperationFailure("write conflict", 112),
        BulkWriteError({"writeErrors": [FULL]}),
        # Two processes write a new document of one key at the same moment.
        BulkWriteError({"writeErrors": [FULL, {"index": 1, "code": 11000, "errmsg": "taken"}]}),
        AutoReconnect("connection closed"),
        NotIndexedError("cannot index"),
    ],
)
def test_what_others_or_the_connection_broke_is_done_again(error: Exception) -> None:
    assert persistent(breaking(error, 2)) == "done"


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "error",
    [
        OperationFailure("not authorised", 13),
        BulkWriteError({"writeErrors": [FULL, {"index": 1, "code": 121, "errmsg": "invalid"}]}),
        DuplicateKeyError("taken", 11000),
        BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64}]}),
    ],
)
def test_what_would_fail_again_is_not_done_again(error: Exception) -> None:
    with pytest.raises(type(error)):
        persistent(breaking(error, 1))


@pytest.mark.parametrize("error", [DEADLOCK, AutoReconnect("connection closed")])
def test_it_is_not_done_again_for_ever(
    error: PyMongoError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PAUSE", 0.01)
    monkeypatch.setattr(server, "COLLISION_SECONDS", 0.05)
    with pytest.raises(type(error)):
        persistent(breaking(error, 10_000), outage=0.05)


@pytest.mark.integration
def test_a_store_holds_two_connections(url: str, connections: Callable[[], int]) -> None:
    """One to work with, and one that looks whether the server is there."""
    before = connections()
    with open_store(url) as store:
        for name in ("outputs", "labels", "claims", "jobs", "runs"):
            collection(store, name).query_one({})
        collection(store, "data").update({"blob_uuid": "a", "@data": {}})
        assert connections() - before <= 2
        store.connect(force_reset=True)
        assert collection(store, "data").query_one({"blob_uuid": "a"})
        assert connections() - before <= 2
    assert connections() == before


@pytest.mark.integration
@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize("error", [DEADLOCK, AutoReconnect("connection closed")])
@pytest.mark.parametrize(
    ("name", "method", "key"),
    [
        ("labels", "bulk_write", "label_id"),
        ("labels", "delete_many", "label_id"),
        ("claims", "replace_one", "label_id"),
        ("claims", "insert_one", "label_id"),
        ("data", "put", "blob_uuid"),
        ("data", "delete", "blob_uuid"),
    ],
)
def test_a_write_that_broke_on_its_way_is_done_again(
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    method: str,
    key: str,
    error: Exception,
    arrived: bool,
) -> None:
    """A standalone server cannot say whether a write that was on its way arrived."""
    with open_store(url) as store:
        part: Any = collection(store, name)
        write, left = getattr(part._collection, method), [error]

        def broken(*arguments: Any, **named: Any) -> Any:
            if not left:
                return write(*arguments, **named)
            if arrived:
                write(*arguments, **named)
            raise left.pop()

        monkeypatch.setattr(part._collection, method, broken, raising=True)
        document = {key: "a", "job_uuid": "j", "job_index": 1}
        if name == "claims":
            assert part.write_if(document | {"token": "t"}, {"token": "t"})
        else:
            part.update([document])
        assert part.count({key: "a"}) == 1
        part.remove_docs({key: "a"})
        assert part.count({key: "a"}) == 0
    assert not left


SCRIPT = """
import sys, time
from ionloop.jobs.label.claims import Claims
from ionloop.stores.connect import collection, open_store
with open_store(sys.argv[1]) as store:
    claims, ours = Claims(collection(store, "claims")), 0
    end = time.monotonic() + 4
    while time.monotonic() < end:
        with claims.claimed("the one that all want") as got:
            ours += got
print(ours)
"""


@pytest.mark.integration
def test_processes_that_want_one_label_all_the_time_get_into_no_deadlock(url: str) -> None:
    """Once one of about thirty claims failed, and those done again met each other again."""
    open_store(url).close()
    command = [sys.executable, "-c", SCRIPT, url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sum(map(int, printed)) > 100
    with open_store(url) as store:
        assert list(collection(store, "claims").query()) == []
