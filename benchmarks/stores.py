"""Compare the embedded store with maggma's JSONStore, MontyStore and, on a server, MongoStore.

Prints inserts per second, the time of a query by uuid, the rate of writing blobs, and how many
times better the embedded store is. Each update of the embedded store waits for the disk (one
fsync); the other stores do not wait, nor does the test server. MongoStore is included if
IONLOOP_TEST_MONGO_URI is set.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from maggma.core import Store
from maggma.stores import JSONStore, MontyStore

from ionloop.stores.connect import collection, open_store

KEY = ["uuid", "index"]


class Rates(NamedTuple):
    """Results of one store."""

    name: str
    documents: int
    """Inserted before the queries."""
    bulk: float
    """Documents/s, all in one update."""
    single: float
    """Documents/s, one update each."""
    query: float
    """A query by uuid, in ms."""
    blobs: float
    """MB/s."""


def main() -> None:
    """Run the comparison and print it."""
    options = _options()
    uri = os.environ.get("IONLOOP_TEST_MONGO_URI")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        stores = [_embedded(Path(folder), options), *_slow_stores(Path(folder), options)]
        if uri:
            stores.append(_on_server(uri, options))
    size = len(orjson.dumps(_document(0)))
    print(f"documents of {size} bytes; JSONStore and MontyStore with {options.few} of them only")
    _print(stores)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=10_000, help="for the inserts")
    parser.add_argument("--queried", type=int, default=100_000, help="there during the queries")
    parser.add_argument("--few", type=int, default=300, help="for the slow stores")
    parser.add_argument("--blob", type=int, default=20, help="size of a blob in MB")
    parser.add_argument("--folder", default=None, help="where to write, e.g. another disk")
    return parser.parse_args()


def _document(number: int) -> dict[str, Any]:
    values = random.Random(number)
    return {
        "uuid": f"{number:032x}",
        "index": 1,
        "metadata": {"run": "benchmark", "iteration": number % 10, "role": "label"},
        "output": {
            "@class": "LabelDoc",
            "values": [values.random() for _ in range(200)],
            "names": [f"name {i:03d}" for i in range(50)],
        },
    }


@contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - start)


def _measure(
    name: str, docs: Store, blobs: Store, count: int, queried: int, blob_size: int
) -> Rates:
    bulk = [_document(i) for i in range(count)]
    singles = [_document(i) for i in range(count, count + max(1, count // 20))]
    seconds: list[float] = []
    with _timed(seconds):
        docs.update(bulk, key=KEY)
    with _timed(seconds):
        for document in singles:
            docs.update(document, key=KEY)
    for first in range(count + len(singles), queried, 5000):
        docs.update([_document(i) for i in range(first, min(first + 5000, queried))], key=KEY)
    total = max(queried, count + len(singles))
    query = _query_time(docs, total)
    rate = _blob_rate(blobs, blob_size)
    return Rates(name, total, count / seconds[0], len(singles) / seconds[1], query, rate)


def _query_time(docs: Store, total: int) -> float:
    wanted = [f"{random.randrange(total):032x}" for _ in range(200)]
    seconds: list[float] = []
    with _timed(seconds):
        for uuid in wanted:
            if docs.query_one({"uuid": uuid}) is None:
                raise RuntimeError(f"document {uuid} was lost")
    return 1000 * seconds[0] / len(wanted)


def _blob_rate(store: Store, size: int) -> float:
    packed = base64.b64encode(os.urandom(size * 750_000)).decode()
    seconds: list[float] = []
    with _timed(seconds):
        for i in range(5):
            blob = {"blob_uuid": f"blob {i}", "data": {"packed": packed}, "job_uuid": "a"}
            store.update({**blob, "job_index": 1}, key="blob_uuid")
    return 5 * size / seconds[0]


def _embedded(folder: Path, options: argparse.Namespace) -> Rates:
    store = open_store(folder / "run.db")
    sizes = (options.documents, options.queried, options.blob)
    rates = _measure("SqliteStore", store.docs_store, collection(store, "data"), *sizes)
    store.close()  # type: ignore[no-untyped-call]
    return rates


def _on_server(uri: str, options: argparse.Namespace) -> Rates:
    store = open_store(f"{uri}/ionloop_benchmark")
    sizes = (options.documents, options.queried, options.blob)
    try:
        return _measure("MongoStore, GridFS", store.docs_store, collection(store, "data"), *sizes)
    finally:
        store.docs_store._collection.database.client.drop_database("ionloop_benchmark")
        store.close()  # type: ignore[no-untyped-call]


def _slow_stores(folder: Path, options: argparse.Namespace) -> Iterator[Rates]:
    makers: dict[str, Callable[[str], Store]] = {
        "JSONStore": lambda part: JSONStore(str(folder / f"{part}.json"), read_only=False),
        "MontyStore": lambda part: MontyStore(part, database_path=str(folder), storage="sqlite"),
    }
    for name, make in makers.items():
        docs, blobs = make("outputs"), make("data")
        docs.key, blobs.key = "uuid", "blob_uuid"
        docs.connect()
        blobs.connect()
        yield _measure(name, docs, blobs, options.few, 0, options.blob)


def _print(stores: list[Rates]) -> None:
    ours = stores[0]
    print(
        f"{'':20}{'documents':>10}{'bulk /s':>18}{'single /s':>18}{'query ms':>18}{'blob MB/s':>18}"
    )
    for found in stores:
        cells = [
            f"{found.bulk:.0f} (x{ours.bulk / found.bulk:.1f})",
            f"{found.single:.0f} (x{ours.single / found.single:.1f})",
            f"{found.query:.3f} (x{found.query / ours.query:.1f})",
            f"{found.blobs:.0f} (x{ours.blobs / found.blobs:.1f})",
        ]
        print(f"{found.name:20}{found.documents:>10}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
