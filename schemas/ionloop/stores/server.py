"""Collections on a MongoDB server whose writes survive collisions and lost connections."""

from __future__ import annotations

import random
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from gridfs import GridFS
from maggma.stores import GridFSStore, MongoStore
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, OperationFailure

from ionloop.stores.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database


OUTAGE = 120.0
"""How long an open store waits for a server that has gone away, in s."""


COLLISION_SECONDS = 20.0
"""How long a write is tried while it collides with others, in s."""


PAUSE = 0.2
"""Shortest time before the next try, in s; the longest is four times that."""


COLLISIONS = frozenset({1, 112})
"""Codes of a server that undid a write: an internal error such as a deadlock; a conflict."""


SAME_KEY = 11000
"""Code of a server that has a document of this key already. A bulk write is always one by keys:
another process entered the document first, and the next try replaces it."""


Result = TypeVar("Result")


class NotIndexedError(StoreError):
    """An index could not be made, perhaps because another process makes it at this moment."""


def persistent(action: Callable[[], Result], outage: float = OUTAGE) -> Result:
    """Do something, and try again where another process collided with it or the connection broke.

    Only for actions that may be done twice: a standalone server cannot say whether a write arrived
    before the connection broke.

    Parameters
    ----------
    action
        What to do with an open store.
    outage
        How long to wait for a server that has gone away, in s.

    Raises
    ------
    AutoReconnect
        If the connection still breaks then.
    OperationFailure
        If it still collides with others after `COLLISION_SECONDS`; at once for any other reason.
    """
    began = time.monotonic()
    while True:
        try:
            return action()
        except (AutoReconnect, OperationFailure, NotIndexedError) as error:
            if time.monotonic() - began >= _patience(error, outage):
                raise
            time.sleep(random.uniform(PAUSE, 4 * PAUSE))  # out of step with the others


def _patience(error: AutoReconnect | OperationFailure | NotIndexedError, outage: float) -> float:
    if isinstance(error, AutoReconnect):
        return outage
    if isinstance(error, BulkWriteError):
        codes = {each["code"] for each in (error.details or {}).get("writeErrors", [])}
        is_collision = bool(codes) and codes <= COLLISIONS | {SAME_KEY}
    else:
        # maggma does not say why it could not make an index.
        is_collision = isinstance(error, NotIndexedError) or error.code in COLLISIONS
    return COLLISION_SECONDS if is_collision else 0.0


class Server:
    """The connections of one store to its server, shared by all its collections.

    With a client of its own for each collection, every running job would hold a dozen of the
    connections that a server allows.

    Parameters
    ----------
    url
        URL of the server, with nothing left to expand.
    database
        Name of the database.
    """

    def __init__(self, url: str, database: str) -> None:
        self.url = url
        self.database = database
        self._client: MongoClient[dict[str, Any]] | None = None

    def connect(self) -> Database[dict[str, Any]]:
        """Return the database, through connections that are opened where none are."""
        if self._client is None:
            milliseconds = int(1000 * OUTAGE)
            self._client = MongoClient(self.url, serverSelectionTimeoutMS=milliseconds)
        return self._client[self.database]

    def close(self) -> None:
        """Close the connections, for all collections."""
        if self._client is not None:
            self._client.close()
            self._client = None


class _OnServer:
    """A part of a store; `Server` has its connections, which close with those of all parts.

    Parameters
    ----------
    server
        Where it is.
    name
        Name of the collection.
    key
        Field that tells its documents apart.
    """

    def __init__(self, server: Server, name: str, key: str) -> None:
        super().__init__(server.database, name, uri=server.url, key=key)  # type: ignore[call-arg]
        self.server = server

    def close(self) -> None:
        """Close the connections of the whole store."""
        self.server.close()
        self._coll: Any = None

    def remove_docs(self, criteria: dict[str, Any]) -> None:
        """Remove documents, see `maggma.core.Store.remove_docs`."""
        persistent(partial(super().remove_docs, criteria))  # type: ignore[misc]


class Collection(_OnServer, MongoStore):
    """A collection of documents. Each of its writes may be done twice: by key, or a removal."""

    def connect(self, force_reset: bool = False) -> None:
        """Connect, see `maggma.core.Store.connect`; `LoopStore.connect` resets the server."""
        self._coll = self.server.connect()[self.collection_name]

    def update(self, docs: Any, key: Any = None) -> None:
        """Write documents by their key.

        Parameters
        ----------
        docs, key
            As for `maggma.core.Store.update`.
        """
        persistent(partial(super().update, docs, key))

    def write_if(self, document: dict[str, Any], criteria: dict[str, Any]) -> bool:
        """Write a document unless another one with its key must stay.

        Parameters
        ----------
        document, criteria
            As for `ionloop.stores.connect.write_if`.
        """
        return persistent(partial(self._replace_or_insert, document, criteria))

    def _replace_or_insert(self, document: dict[str, Any], criteria: dict[str, Any]) -> bool:
        mine = {self.key: document[self.key]}
        if self._collection.replace_one({**mine, **criteria}, document).matched_count:
            return True
        try:
            # Under its key as _id: some servers look at other unique indexes only after both of
            # two processes have written, and then each waits for the other.
            self._collection.insert_one({"_id": document[self.key], **document})
        except DuplicateKeyError:
            return False
        return True


class Blobs(_OnServer, GridFSStore):
    """A collection of blobs. If a blob is written twice, its first version is removed."""

    def connect(self, force_reset: bool = False) -> None:
        """Connect, see `maggma.core.Store.connect`; `LoopStore.connect` resets the server."""
        database = self.server.connect()
        self._coll = GridFS(database, self.collection_name)
        self._files_collection = database[f"{self.collection_name}.files"]
        files: Any = MongoStore.from_collection(self._files_collection)  # type: ignore[no-untyped-call]
        files.last_updated_field = f"metadata.{self.last_updated_field}"
        files.key = self.key
        self._fs = files

    def update(self, docs: Any, key: Any = None, additional_metadata: Any = None) -> None:
        """Write blobs by their key.

        Parameters
        ----------
        docs, key, additional_metadata
            As for `maggma.stores.GridFSStore.update`.
        """
        persistent(partial(super().update, docs, key, additional_metadata))

    def sizes(self, field: str) -> dict[Any, int]:
        """Return the bytes of all blobs by the value of a field of their metadata."""
        name = f"metadata.{field}"
        found: Counter[Any] = Counter()
        for file in self._files_collection.find({}, {name: 1, "length": 1}):
            found[file.get("metadata", {}).get(field)] += file["length"]
        return dict(found)
