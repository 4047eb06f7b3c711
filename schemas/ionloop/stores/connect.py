"""From a URL to a connected store: an SQLite file, or a MongoDB server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import pymongo
from jobflow.core.store import JobStore
from pymongo.errors import DuplicateKeyError, PyMongoError

from ionloop.schemas.environment import absolute, expand
from ionloop.schemas.errors import InputError, IonloopError
from ionloop.schemas.migration import SCHEMA_VERSION, refuse_newer
from ionloop.stores.errors import StoreError
from ionloop.stores.server import Blobs, Collection, NotIndexedError, Server, persistent
from ionloop.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from maggma.core import Store


DEFAULT_DATABASE = "ionloop"

SERVER_TIMEOUT = 5.0
"""How long to look for a MongoDB server when a store is opened, in s."""


@dataclass(frozen=True)
class _Collection:
    key: str
    indexed: tuple[str, ...] = ()
    unique: tuple[str, ...] | None = None  # together; the key unless it is said otherwise


_COLLECTIONS = {
    "outputs": _Collection(
        "uuid",
        ("index", "metadata.run", "metadata.iteration", "metadata.role", "output.@class"),
        unique=("uuid", "index"),
    ),
    # Not unique: GridFS writes the new version of a blob before it removes the old one.
    "data": _Collection("blob_uuid", ("job_uuid",), unique=()),
    "labels": _Collection(
        "label_id", ("frame_id", "likeness", "level", "status", "run", "iteration")
    ),
    "claims": _Collection("label_id"),
    "jobs": _Collection("job_id", ("run", "state", "uuid")),
    "runs": _Collection("run"),
}


class LoopStore(JobStore):
    """A jobflow store whose additional stores keep their own keys.

    These are ``data`` (jobflow's blobs), ``labels``, ``claims`` (on labels that are being
    calculated), ``jobs`` (the runner's journal) and ``runs``. The store serialises to its URL as it
    was given: a password that is named as an environment variable stays in the environment.

    Parameters
    ----------
    url
        As for `open_store`; environment variables in it are kept.
    read_only
        Whether it is opened to read.
    """

    def __init__(self, url: str | Path, read_only: bool = False) -> None:
        file = store_file(url)
        make = partial(_mongo, _server(url)) if file is None else partial(_sqlite, file, read_only)
        stores: dict[str, Store] = {name: make(name, spec) for name, spec in _COLLECTIONS.items()}
        super().__init__(stores.pop("outputs"), stores)
        # JobStore takes every additional store for one of blobs and renames its key.
        for name, spec in _COLLECTIONS.items():
            collection(self, name).key = spec.key
        self.url = str(url)
        self.read_only = read_only

    def connect(self, force_reset: bool = False) -> None:
        """Connect all collections.

        Parameters
        ----------
        force_reset
            Connect again even if connected.
        """
        if force_reset:
            self.close()  # type: ignore[no-untyped-call]
        super().connect()

    def with_outputs(self, outputs: Store) -> Self:
        """Return the same store with another one for the jobs' outputs."""
        other = object.__new__(type(self))
        other.__dict__ = {**self.__dict__, "docs_store": outputs}
        return other

    def remove_docs(self, criteria: dict[str, Any]) -> None:
        """Remove jobs' outputs and their blobs. Labels and the journal are never touched."""
        for doc in self.docs_store.query(criteria, properties=["uuid", "index"]):
            blobs = {"job_uuid": doc["uuid"], "job_index": doc["index"]}
            collection(self, "data").remove_docs(blobs)
        self.docs_store.remove_docs(criteria)


def open_store(
    url: str | Path, patience: float | None = None, *, read_only: bool = False
) -> LoopStore:
    """Open the store of a run, with its collections and indexes.

    Parameters
    ----------
    url
        ``run.db``, ``sqlite:///absolute/run.db`` or ``mongodb://host:port/database`` (also
        ``mongodb+srv://``; the database is "ionloop" unless named). Environment variables in it
        (``mongodb://me:${PASSWORD}@host``) are expanded.
    patience
        How long to look for a server, s; `SERVER_TIMEOUT` by default.
    read_only
        Create nothing: no file, collection, index or log. A file has to exist.

    Returns
    -------
    LoopStore
        A connected jobflow store.

    Raises
    ------
    StoreError
        If the file or the server cannot be reached, the file belongs to something else, or the URL
        is of another kind.
    NewerVersionError
        If it holds a run of a later version of ionloop.
    """
    try:
        return _connected(LoopStore(url, read_only), patience or SERVER_TIMEOUT)
    except IonloopError:
        raise
    except (PyMongoError, ValueError) as error:
        reason = str(error).partition(" (configured")[0].rstrip(".")
        raise StoreError(
            f"Store {_without_credentials(str(url))}: {reason}. "
            "Check the URL, that the server runs, and the rights of the user."
        ) from error


def _server(url: str | Path) -> Server:
    from pymongo.uri_parser import parse_uri

    expanded = _expanded(url)
    scheme = expanded.partition("://")[0]
    if scheme not in ("mongodb", "mongodb+srv"):
        raise StoreError(
            f"Store {url}: unknown kind {scheme!r}; give a file such as run.db, "
            "sqlite:///path/run.db or mongodb://host:port/database."
        )
    return Server(expanded, parse_uri(expanded)["database"] or DEFAULT_DATABASE)


def store_file(url: str | Path) -> Path | None:
    """Return the file of an embedded store, absolute; None for a server.

    Raises
    ------
    StoreError
        If an environment variable in it is not set.
    """
    expanded = _expanded(url)
    scheme, found, rest = expanded.partition("://")
    if found and scheme != "sqlite":
        return None
    return absolute(Path(rest or expanded), Path())


def _expanded(url: str | Path) -> str:
    # A worker that was not given the password of the server cannot reach the store.
    try:
        return expand(str(url))
    except InputError as error:
        raise StoreError(str(error)) from None


def check_there(file: Path) -> None:
    """Raise if the file of a store is missing: looking at a run must not create one.

    Raises
    ------
    StoreError
        Naming the file and the ways to name another.
    """
    if file.is_dir():
        raise StoreError(f"Store {file}: this is a folder. Name the file of a store.")
    if not file.is_file():
        raise StoreError(
            f"there is no store {file}; name one with --store or IONLOOP_STORE, or go to the "
            "folder of the run"
        )


def collection(store: JobStore, name: str) -> Store:
    """Return one collection.

    Parameters
    ----------
    store
        A job store.
    name
        outputs, data, labels, claims, jobs or runs.

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


def write_if(part: Store, document: dict[str, Any], criteria: dict[str, Any]) -> bool:
    """Write a document, in one step, unless another one with its key must stay.

    Parameters
    ----------
    part
        One collection of an open store.
    document
        With a value of the collection's key.
    criteria
        A MongoDB filter: which document with the same key may be replaced.

    Returns
    -------
    bool
        Whether it was written: no document had the key, or the one that had it fits the criteria.
    """
    return cast("SqliteStore | Collection", part).write_if(document, criteria)


def blob_sizes(store: JobStore) -> dict[str, int]:
    """Return the bytes of every blob by its uuid."""
    return cast("SqliteStore | Blobs", collection(store, "data")).sizes("blob_uuid")


def describe(store: JobStore) -> str:
    """Return where a store is, for messages: a file's path, or a server without credentials."""
    docs: Any = store.docs_store
    if isinstance(docs, SqliteStore):
        return docs.path
    return f"{_without_credentials(docs.uri)} (database {docs.database})"


def _connected(store: LoopStore, patience: float) -> LoopStore:
    store.connect()
    try:
        _look_for_server(store.docs_store, patience)
        later = {"schema_version": {"$gt": SCHEMA_VERSION}}
        if newer := collection(store, "runs").query_one(later, properties=["schema_version"]):
            refuse_newer(newer["schema_version"], f"store {describe(store)}")
        if not store.read_only:
            persistent(partial(_ensure_indexes, store))
    except BaseException:
        store.close()  # type: ignore[no-untyped-call]
        raise
    return store


def _look_for_server(part: Store, patience: float) -> None:
    if not isinstance(part, SqliteStore):
        admin = part._collection.database.client.admin
        with pymongo.timeout(patience):
            persistent(partial(admin.command, "ping"), patience)


def _sqlite(file: Path, read_only: bool, name: str, spec: _Collection) -> SqliteStore:
    if read_only:
        check_there(file)
    if not file.parent.is_dir():
        raise StoreError(f"Store {file}: the folder {file.parent} does not exist; create it first.")
    return SqliteStore(file, name, key=spec.key, indexed=spec.indexed, read_only=read_only)


def _mongo(server: Server, name: str, spec: _Collection) -> Collection | Blobs:
    kind = Blobs if name == "data" else Collection
    return kind(server, name, spec.key)


def _without_credentials(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _ensure_indexes(store: LoopStore) -> None:
    for name, spec in _COLLECTIONS.items():
        part = collection(store, name)
        there = _indexes(part)
        unique = (spec.key,) if spec.unique is None else spec.unique
        for field in (spec.key, *spec.indexed):
            known = (field,) == unique or (field,) in there
            if not known and not part.ensure_index(field):
                raise NotIndexedError(f"Store {describe(store)}: cannot index {name}.{field}.")
        if unique and not there.get(unique) and not _ensure_unique(part, unique):
            raise StoreError(
                f"Store {describe(store)}: {name} holds documents that agree in "
                f"{' and '.join(unique)}; remove the doubled ones."
            )


def _indexes(part: Store) -> dict[tuple[str, ...], bool]:
    """Return the fields of the indexes that a server has, and whether they are unique.

    Asked once, not field by field, because every job opens a store. A user who may only read may
    not even ask for an index that exists.
    """
    if isinstance(part, SqliteStore):
        return {}
    blobs = getattr(part, "_files_collection", None)
    found = (part._collection if blobs is None else blobs).index_information().values()
    prefix = "" if blobs is None else "metadata."
    fields = [tuple(field.removeprefix(prefix) for field, _ in each["key"]) for each in found]
    return dict(zip(fields, (bool(each.get("unique")) for each in found), strict=True))


def _ensure_unique(part: Store, fields: tuple[str, ...]) -> bool:
    if isinstance(part, SqliteStore):
        return part.ensure_index(fields, unique=True)
    try:
        # maggma's own ensure_index takes one field only.
        part._collection.create_index([(field, 1) for field in fields], unique=True)
    except DuplicateKeyError:
        return False
    return True
