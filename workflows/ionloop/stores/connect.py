"""From a URL to a connected store: an SQLite file, or a MongoDB server."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jobflow.core.store import JobStore

from ionloop.stores.sqlite import SqliteStore, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggma.core import Store
    from maggma.stores import GridFSStore, MongoStore

__all__ = ["LoopStore", "StoreError", "collection", "describe", "open_store"]

DEFAULT_DATABASE = "ionloop"
SERVER_TIMEOUT = 5.0
"""How long to look for a MongoDB server when a store is opened, in s."""

COLLISIONS = frozenset({1, 112})  # an internal error such as a deadlock; a write conflict

OUTAGE = 120.0
"""How long an open store waits for a server that has gone away, in s."""


@dataclass(frozen=True)
class _Collection:
    key: str
    indexed: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()  # together


_COLLECTIONS = {
    "outputs": _Collection(
        "uuid",
        ("index", "metadata.run", "metadata.iteration", "metadata.role", "output.@class"),
        unique=("uuid", "index"),
    ),
    # Not unique: GridFS writes the new version of a blob before it removes the old one.
    "data": _Collection("blob_uuid", ("job_uuid",)),
    "labels": _Collection(
        "label_id",
        ("frame_id", "likeness", "level", "status", "run", "iteration"),
        unique=("label_id",),
    ),
    "jobs": _Collection("job_id", ("run", "state", "uuid"), unique=("job_id",)),
    "runs": _Collection("run", unique=("run",)),
}


class LoopStore(JobStore):
    """A jobflow store whose additional stores keep their own keys.

    It serialises to its URL as it was given: a password that is named as an environment variable
    stays in the environment.

    Parameters
    ----------
    docs_store
        The jobs' outputs, key ``uuid``.
    additional_stores
        ``data`` (jobflow's blobs), ``labels``, ``jobs`` (the runner's journal), ``runs``.
    save, load
        As for `jobflow.JobStore`.
    url
        Where the store was opened from, environment variables not expanded.
    """

    def __init__(
        self,
        docs_store: Store,
        additional_stores: dict[str, Store] | None = None,
        save: Any = None,
        load: Any = False,
        url: str | None = None,
    ) -> None:
        # JobStore takes every additional store for one of blobs and renames its key.
        keys = {name: store.key for name, store in (additional_stores or {}).items()}
        super().__init__(docs_store, additional_stores or {}, save=save, load=load)
        for name, key in keys.items():
            collection(self, name).key = key
        self.url = url

    def as_dict(self) -> dict[str, Any]:
        """Return the class and the URL; where there is none, every store."""
        if self.url is None:
            return cast("dict[str, Any]", super().as_dict())
        kind = type(self)
        return {"@module": kind.__module__, "@class": kind.__name__, "url": self.url}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> LoopStore:
        """Return the store of a URL, not connected yet."""
        if d.get("url") is None:
            return cast("LoopStore", super().from_dict(d))
        return _at(d["url"])

    def __reduce__(self) -> Any:
        """Copy and pickle as `as_dict` and `from_dict` do."""
        return type(self).from_dict, (self.as_dict(),)

    def remove_docs(self, criteria: dict[str, Any]) -> None:
        """Remove jobs' outputs and their blobs. Labels and the journal are never touched."""
        for doc in self.docs_store.query(criteria, properties=["uuid", "index"]):
            blobs = {"job_uuid": doc["uuid"], "job_index": doc["index"]}
            collection(self, "data").remove_docs(blobs)
        self.docs_store.remove_docs(criteria)


def open_store(url: str | Path, patience: float | None = None) -> LoopStore:
    """Open the store of a run, with its collections and indexes.

    Parameters
    ----------
    url
        ``run.db``, ``sqlite:///absolute/run.db`` or ``mongodb://host:port/database`` (also
        ``mongodb+srv://``; the database is "ionloop" unless named). Environment variables in it
        (``mongodb://me:${PASSWORD}@host``) are expanded.
    patience
        How long to look for a server, s; `SERVER_TIMEOUT` by default.

    Returns
    -------
    LoopStore
        A connected jobflow store.

    Raises
    ------
    StoreError
        If the file or the server cannot be reached, or the URL is of another kind.
    """
    from pymongo.errors import PyMongoError

    try:
        return _connected(_at(url), SERVER_TIMEOUT if patience is None else patience)
    except (PyMongoError, ValueError) as error:
        raise StoreError(
            f"Store {_without_credentials(str(url))}: {str(error).partition(' (configured')[0]}. "
            "Check the URL, that the server runs, and the rights of the user."
        ) from error


def _at(url: str | Path) -> LoopStore:
    expanded = _expanded(str(url))
    scheme, found, rest = expanded.partition("://")
    if not found or scheme == "sqlite":
        return _build(partial(_sqlite, _file(rest or expanded)), str(url))
    if scheme in ("mongodb", "mongodb+srv"):
        return _build(partial(_mongo, expanded, _database(expanded)), str(url))
    raise StoreError(
        f"Store {url}: unknown kind {scheme!r}; give a file such as run.db, "
        "sqlite:///path/run.db or mongodb://host:port/database."
    )


def _expanded(url: str) -> str:
    expanded = os.path.expandvars(url)
    if missing := re.search(r"\$\{(\w+)\}", expanded):
        raise StoreError(f"Store {url}: the environment variable {missing[1]} is not set.")
    return expanded


def collection(store: JobStore, name: str) -> Store:
    """Return one collection: outputs, data, labels, jobs or runs.

    Raises
    ------
    StoreError
        If there is no such collection.
    """
    parts: dict[str, Store] = {
        "outputs": store.docs_store,
        **store.additional_stores,  # type: ignore[has-type]
    }
    if name not in parts:
        raise StoreError(f"The store has no collection {name!r}; it has {', '.join(parts)}.")
    return parts[name]


def describe(store: JobStore) -> str:
    """Return where a store is, for messages: a file's path, or a server without credentials."""
    docs: Any = store.docs_store
    if isinstance(docs, SqliteStore):
        return docs.path
    return f"{_without_credentials(docs.uri)} (database {docs.database})"


def _file(path: str) -> Path:
    file = Path(path).expanduser().absolute()
    if not file.parent.is_dir():
        raise StoreError(f"Store {file}: the folder {file.parent} does not exist; create it first.")
    return file


def _connected(store: LoopStore, patience: float) -> LoopStore:
    store.connect()
    try:
        _look_for_server(store.docs_store, patience)
        _with_patience(partial(_ensure_indexes, store))
    except BaseException:
        store.close()  # type: ignore[no-untyped-call]
        raise
    return store


def _look_for_server(part: Store, patience: float) -> None:
    import pymongo

    if not isinstance(part, SqliteStore):
        with pymongo.timeout(patience):
            part._collection.database.client.admin.command("ping")


def _with_patience(action: Callable[[], None]) -> None:
    """Do it again where processes that open a new store at once got into each other's way."""
    from pymongo.errors import OperationFailure

    for pause in (0.3, 1.0, 3.0):
        try:
            return action()
        except OperationFailure as error:
            if error.code not in COLLISIONS:
                raise
            time.sleep(pause)
    return action()


def _build(make: Callable[[str, _Collection], Store], url: str) -> LoopStore:
    stores = {name: make(name, spec) for name, spec in _COLLECTIONS.items()}
    return LoopStore(stores.pop("outputs"), stores, url=url)


def _sqlite(path: Path, name: str, spec: _Collection) -> SqliteStore:
    return SqliteStore(path, name, key=spec.key, indexed=spec.indexed)


def _mongo(url: str, database: str, name: str, spec: _Collection) -> MongoStore | GridFSStore:
    from maggma.stores import GridFSStore, MongoStore

    options = {"serverSelectionTimeoutMS": int(1000 * OUTAGE)}
    kind = GridFSStore if name == "data" else MongoStore
    return kind(database, name, uri=url, key=spec.key, mongoclient_kwargs=options)


def _database(url: str) -> str:
    from pymongo.uri_parser import parse_uri

    return cast("str", parse_uri(url)["database"] or DEFAULT_DATABASE)


def _without_credentials(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _ensure_indexes(store: LoopStore) -> None:
    for name, spec in _COLLECTIONS.items():
        part = collection(store, name)
        there = _indexes(part)
        for field in (spec.key, *spec.indexed):
            known = (field,) == spec.unique or (field,) in there
            if not known and not part.ensure_index(field):
                raise StoreError(f"Store {describe(store)}: cannot index {name}.{field}.")
        if spec.unique and not there.get(spec.unique) and not _ensure_unique(part, spec.unique):
            raise StoreError(
                f"Store {describe(store)}: {name} holds documents that agree in "
                f"{' and '.join(spec.unique)}; remove the doubled ones."
            )


def _indexes(part: Store) -> dict[tuple[str, ...], bool]:
    """Return the fields of the indexes that a server has, and whether they are unique.

    Asked once, not field by field: every job opens a store. And who may only read may not even ask
    for an index that is there.
    """
    if isinstance(part, SqliteStore):
        return {}
    blobs = getattr(part, "_files_collection", None)
    found = (part._collection if blobs is None else blobs).index_information().values()
    prefix = "" if blobs is None else "metadata."
    fields = [tuple(field.removeprefix(prefix) for field, _ in each["key"]) for each in found]
    return dict(zip(fields, (bool(each.get("unique")) for each in found), strict=True))


def _ensure_unique(part: Store, fields: tuple[str, ...]) -> bool:
    from pymongo.errors import DuplicateKeyError

    if isinstance(part, SqliteStore):
        return part.ensure_index(fields, unique=True)
    try:
        # maggma's own ensure_index takes one field only.
        part._collection.create_index([(field, 1) for field in fields], unique=True)
    except DuplicateKeyError:
        return False
    return True
