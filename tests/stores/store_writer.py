"""A process that writes to a store, for the tests: ``store_writer.py what url [more]``."""

from __future__ import annotations

import sqlite3
import sys
import time
from itertools import count

from ionloop.stores.connect import collection, open_store


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def upsert(url: str, run: str, times: str) -> None:
    """Write labels of its own, and one that all writers write."""
    labels = collection(open_store(url), "labels")
    for i in range(int(times)):
        labels.update({"label_id": f"{run}-{i}", "run": run})
        labels.update({"label_id": "shared", "run": run})


def batches(url: str, size: str) -> None:
    """Write batches for ever, and say each one's number when it is written."""
    store = open_store(url)
    say("ready")
    for batch in count():
        store.update(
            [
                {"uuid": f"{batch}-{i}", "index": 1, "batch": batch, "output": "x" * 2000}
                for i in range(int(size))
            ]
        )
        say(str(batch))


def hold(path: str, seconds: str) -> None:
    """Hold the file's write lock for some time."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    say("held")
    time.sleep(float(seconds))
    connection.execute("COMMIT")


if __name__ == "__main__":
    {"upsert": upsert, "batches": batches, "hold": hold}[sys.argv[1]](*sys.argv[2:])  # type: ignore[operator]
