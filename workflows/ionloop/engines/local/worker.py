"""The process of one job: runs the job and writes to the journal, once, how it ended."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

from jobflow.core.job import Job, Response
from jobflow.utils.log import initialize_logger
from maggma.core import Store
from monty.json import MontyDecoder

from ionloop.engines.local.journal import Document, Journal, now, spawned_documents
from ionloop.schemas.process import identity
from ionloop.stores.connect import LoopStore, check_there, collection, open_store, store_file
from ionloop.stores.server import OUTAGE

SCANT_BYTES = 1_000_000
"""With less room than this on its disk, a job has failed for lack of room."""


@dataclass(frozen=True)
class Task:
    """What a worker needs to run one job.

    Attributes
    ----------
    store_url
        URL of the job store.
    run
        Id of the run.
    job_id
        The job.
    folder
        Scratch folder of the job; an older one is replaced.
    lock
        Lock file that all workers of the run share.
    env
        All environment variables of the job.
    """

    store_url: str
    run: str
    job_id: str
    folder: Path
    lock: Path
    env: Mapping[str, str]


class HoldingStore:
    """A docs store that keeps updates to itself; everything else goes to the real one.

    Attributes
    ----------
    held
        The updates, as ``{"documents": [...], "key": [...]}``.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.held: list[Document] = []

    def update(self, docs: Any, key: Any = None) -> None:
        """Hold an update back.

        Parameters
        ----------
        docs
            One document or several.
        key
            Fields that identify a document; by default those of the store.
        """
        documents = docs if isinstance(docs, list) else [docs]
        self.held.append({"documents": documents, "key": key or self._store.key})

    def __getattr__(self, name: str) -> Any:
        if name == "_store":  # a copy that is being made asks before it has one
            raise AttributeError(name)
        return getattr(self._store, name)


def main(task: Task) -> None:
    """Run a job and exit.

    Parameters
    ----------
    task
        The job and where it runs.
    """
    os.setsid()
    # This signal is for jobs that only wait; all others ignore it.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # The server process that this one was forked from has older variables.
    os.environ.clear()
    os.environ.update(task.env)
    obstacle = _enter(task.folder)
    threading.Thread(target=_die_with_parent, name="watch-parent", daemon=True).start()
    if not _parent_lives_on(task.lock):
        return
    _work(task, obstacle)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads and exit handlers that the job left behind must not hold back a job that has ended.
    os._exit(0)


def execute(document: Document, store: LoopStore) -> Document:
    """Run the job of a journal document without touching the store of outputs.

    Parameters
    ----------
    document
        Journal document of the job.
    store
        The job store, connected.

    Returns
    -------
    dict
        The fields of the finished document.
    """
    job: Job = MontyDecoder().process_decoded(document["job"])
    # An earlier try may have written blobs.
    for name in job._kwargs:
        collection(store, name).remove_docs({"job_uuid": job.uuid, "job_index": job.index})
    # The output reaches its store with the new jobs, by way of the journal: both or neither.
    outputs: Any = HoldingStore(store.docs_store)
    response: Response[Any] = job.run(store.with_outputs(outputs))
    return {
        "state": "finished",
        "held": outputs.held,
        "spawned": spawned_documents(response, document),
        "stop": "run" if response.stop_jobflow else "children" if response.stop_children else None,
        **_ended(document),
    }


def _work(task: Task, obstacle: OSError | None) -> None:
    if file := store_file(task.store_url):
        check_there(file)  # if it was moved away, opening would create a new one
    store = open_store(task.store_url, patience=OUTAGE)
    journal = Journal(collection(store, "jobs"), task.run)
    me = identity()
    del me["heartbeat"]
    running = {"state": "running", "started": now(), "folder": str(task.folder), **me}
    document = journal.read(task.job_id) | running
    journal.write(document)
    try:
        if obstacle is not None:
            raise obstacle
        journal.write(document | execute(document, store))
    except Exception as error:  # noqa: BLE001 -- any error of a job is recorded
        journal.write(document | _failed(document, error))
    store.close()  # type: ignore[no-untyped-call]


def _enter(folder: Path) -> OSError | None:
    """Create the folder of the job and work in it; return the error if that is not possible."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        os.chdir(folder)
        log = os.open("job.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        return error
    os.dup2(log, 1)
    os.dup2(log, 2)
    initialize_logger()
    return None


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)


def _parent_lives_on(lock: Path) -> bool:
    # Held until this process ends: a runner that takes over waits for it. The parent is looked
    # at afterwards, so either the new runner sees this worker or the worker sees it is orphaned.
    # All workers share the lock, which filelock cannot do.
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    parent = parent_process()
    return parent is not None and parent.is_alive()


def _failed(document: Document, error: Exception) -> Document:
    first_line = (str(error).strip() or "no message").splitlines()[0]
    summary = f"{document['name']} failed: {type(error).__name__}: {first_line}"
    # Programs that cannot write their files report all kinds of errors; this is their cause.
    folder = Path(document["folder"])
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if shutil.disk_usage(there).free < SCANT_BYTES:
        summary += f"; the disk of {there} is full: make room on it"
    return {
        "state": "failed",
        "error": {
            "summary": summary,
            "traceback": "".join(traceback.format_exception(error)),
        },
        **_ended(document),
    }


def _ended(document: Document) -> Document:
    return {"ended": now(), "tries": document["tries"] + 1}
