from __future__ import annotations

import time

import pytest

from ionloop.stores.connect import collection, describe, open_store
from ionloop.stores.errors import StoreError
from ionloop.stores.sqlite import SqliteStore


@pytest.mark.parametrize("form", ["{path}", "sqlite://{path}"])
def test_file_urls(tmp_path, form):
    path = tmp_path / "run.db"
    store = open_store(form.format(path=path))
    assert path.is_file()
    assert describe(store) == str(path)
    store.close()


def test_a_relative_file_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("run.db")
    assert describe(store) == str(tmp_path / "run.db")
    store.close()


def test_keys_of_the_collections(tmp_path):
    store = open_store(tmp_path / "run.db")
    names = ["outputs", "data", "labels", "jobs", "runs"]
    keys = [collection(store, name).key for name in names]
    assert keys == ["uuid", "blob_uuid", "label_id", "job_id", "run"]
    with pytest.raises(StoreError, match="no collection 'label'; it has outputs, data, labels"):
        collection(store, "label")
    store.close()


def test_two_openings_at_once(tmp_path):
    first, second = open_store(tmp_path / "run.db"), open_store(tmp_path / "run.db")
    first.update({"uuid": "a", "index": 1})
    assert second.count() == 1
    first.close()
    second.close()


def test_an_index_that_another_process_makes_at_the_same_moment_is_asked_for_again(
    tmp_path, monkeypatch
):
    ensure_index, asked = SqliteStore.ensure_index, []

    def busy(part, field, unique=False):
        asked.append(field)
        # The first time it is the file's own collection that asks.
        refused = field == "iteration" and asked.count(field) == 2
        return not refused and ensure_index(part, field, unique)

    monkeypatch.setattr(SqliteStore, "ensure_index", busy)
    open_store(tmp_path / "run.db").close()
    assert asked.count("iteration") == 3


def test_doubled_outputs_are_named(tmp_path):
    store = open_store(tmp_path / "run.db")
    store.docs_store.file.rows('DROP INDEX "outputs.uuid+index.unique"')  # type: ignore[attr-defined]
    store.docs_store.update([{"uuid": "a", "index": 1, "v": i} for i in (1, 2)], key="v")
    store.close()
    with pytest.raises(StoreError, match="outputs holds documents that agree in uuid and index"):
        open_store(tmp_path / "run.db")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("{tmp}/none/run.db", "the folder .*/none does not exist; create it"),
        ("{tmp}", "unable to open database file"),
        ("{tmp}/text.db", "file is not a database.*name another one"),
        ("postgres://host/x", "unknown kind 'postgres'; give a file such as run.db"),
        ("mongodb://host:port", "Check the URL"),
    ],
)
def test_clear_errors(tmp_path, url, message):
    (tmp_path / "text.db").write_text("not a database, but a text of some length\n" * 50)
    with pytest.raises(StoreError, match=message):
        open_store(url.format(tmp=tmp_path))


def test_unreachable_server_is_reported_soon_and_without_the_password(monkeypatch):
    monkeypatch.setattr("ionloop.stores.connect.SERVER_TIMEOUT", 0.5)
    start = time.monotonic()
    with pytest.raises(StoreError, match=r"refused.*Check the URL, that the server runs") as caught:
        open_store("mongodb://user:secret@127.0.0.1:1/ionloop")
    assert "secret" not in str(caught.value)
    assert time.monotonic() - start < 5
