"""Who looks at a store leaves no trace."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from ionloop.stores.connect import LoopStore, collection, open_store, store_file
from ionloop.stores.errors import StoreError
from ionloop.stores.sqlite import SqliteStore

MONGO = os.environ.get("IONLOOP_TEST_MONGO_URI")


def traces(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file."""
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.iterdir())}


def write(path: Path, run: str) -> None:
    with closing(open_store(path)) as store:
        collection(store, "runs").update({"run": run})


def runs(store) -> list[str]:
    return [document["run"] for document in collection(store, "runs").query(sort={"run": 1})]


def test_reading_leaves_the_folder_as_it_was(tmp_path):
    write(tmp_path / "run.db", "a")
    before = traces(tmp_path)
    with closing(open_store(tmp_path / "run.db", read_only=True)) as store:
        assert runs(store) == ["a"]
        assert traces(tmp_path) == before
    assert traces(tmp_path) == before


def test_a_folder_without_write_permission_is_read(tmp_path):
    write(tmp_path / "run.db", "a")
    tmp_path.chmod(0o555)
    (tmp_path / "run.db").chmod(0o444)
    with closing(open_store(tmp_path / "run.db", read_only=True)) as store:
        assert runs(store) == ["a"]
    tmp_path.chmod(0o755)


def test_a_reader_sees_what_a_live_writer_writes(tmp_path):
    with closing(open_store(tmp_path / "run.db")) as writer:
        collection(writer, "runs").update({"run": "a"})
        with closing(open_store(tmp_path / "run.db", read_only=True)) as reader:
            assert runs(reader) == ["a"]
            collection(writer, "runs").update({"run": "b"})
            assert runs(reader) == ["a", "b"]


def test_a_reader_sees_what_is_written_after_it_came(tmp_path):
    # Nobody wrote when it came, so that it read without a lock.
    write(tmp_path / "run.db", "a")
    with closing(open_store(tmp_path / "run.db", read_only=True)) as reader:
        assert runs(reader) == ["a"]
        write(tmp_path / "run.db", "b")  # from its first to its last word
        assert runs(reader) == ["a", "b"]
        with closing(open_store(tmp_path / "run.db")) as writer:
            collection(writer, "runs").update({"run": "c"})
            assert runs(reader) == ["a", "b", "c"]


def test_a_reader_cannot_write(tmp_path):
    write(tmp_path / "run.db", "a")
    before = traces(tmp_path)
    with closing(open_store(tmp_path / "run.db", read_only=True)) as store:
        for action in (
            lambda: collection(store, "runs").update({"run": "b"}),
            lambda: collection(store, "runs").remove_docs({"run": "a"}),
            lambda: collection(store, "runs").ensure_index("state"),
        ):
            with pytest.raises(StoreError, match="readonly"):
                action()
    assert traces(tmp_path) == before


def test_a_collection_that_an_older_store_lacks_is_empty(tmp_path):
    with closing(SqliteStore(tmp_path / "run.db", "runs", key="run")) as old:
        old.connect()
        old.update({"run": "a"})
    with closing(open_store(tmp_path / "run.db", read_only=True)) as store:
        assert runs(store) == ["a"]
        labels = collection(store, "labels")
        assert labels.count() == 0
        assert list(labels.query({"run": "a"}, sort={"label_id": 1})) == []
        assert labels.distinct("run") == []


def test_a_missing_file_is_not_created(tmp_path):
    with pytest.raises(StoreError, match=f"there is no store {tmp_path}/run.db; name one with"):
        open_store(tmp_path / "run.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.execute("CREATE TABLE history (url TEXT)")
        connection.commit()


@pytest.mark.parametrize("read_only", [True, False])
def test_a_foreign_database_is_named_and_left_alone(tmp_path, read_only):
    foreign_database(tmp_path / "places.db")
    before = traces(tmp_path)
    with pytest.raises(StoreError, match=r"places.db: .* something else .*: bookmarks, history\)"):
        open_store(tmp_path / "places.db", read_only=read_only)
    assert traces(tmp_path) == before


def test_an_empty_file_holds_no_run(tmp_path):
    (tmp_path / "run.db").touch()
    with pytest.raises(StoreError, match=r"run\.db: the file is empty"):
        open_store(tmp_path / "run.db", read_only=True)
    assert traces(tmp_path)["run.db"][0] == b""
    write(tmp_path / "run.db", "a")  # a run may start in it


def test_a_text_file_is_no_store(tmp_path):
    (tmp_path / "notes.txt").write_text("not a database, but a text of some length\n" * 50)
    before = traces(tmp_path)
    with pytest.raises(StoreError, match=r"file is not a database.*name another one"):
        open_store(tmp_path / "notes.txt", read_only=True)
    assert traces(tmp_path) == before


def test_a_copy_of_a_reader_is_a_reader(tmp_path):
    write(tmp_path / "run.db", "a")
    with closing(open_store(tmp_path / "run.db", read_only=True)) as store:
        again = type(store).from_dict(store.as_dict())
    assert isinstance(again, LoopStore)
    assert collection(again, "labels").read_only  # type: ignore[attr-defined]


def test_an_unset_variable_in_a_files_name_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", str(tmp_path))
    assert store_file("${PLACE}/run.db") == tmp_path / "run.db"
    with pytest.raises(StoreError, match="the environment variable NOWHERE is not set"):
        open_store("${NOWHERE}run.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
@pytest.mark.skipif(not MONGO, reason="IONLOOP_TEST_MONGO_URI is not set")
def test_reading_makes_nothing_on_a_server():
    from pymongo import MongoClient

    name = f"look_{uuid4().hex[:8]}"
    with closing(open_store(f"{MONGO}/{name}", read_only=True)) as store:
        assert runs(store) == []
        assert collection(store, "data").count() == 0
    with MongoClient(MONGO) as client:
        assert name not in client.list_database_names()
