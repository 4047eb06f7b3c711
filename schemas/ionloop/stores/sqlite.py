"""A maggma store in one SQLite file: the embedded stand-in for MongoDB.

Documents are kept as BSON, MongoDB's own format, so that times, bytes, NaN and infinities come
back exactly as a MongoDB server would return them (JSON would turn NaN into null).

The file uses SQLite's write-ahead log: readers never wait, writers of any number of processes
queue, and a killed writer leaves the state before its update. The log needs shared memory, so
the file must lie on a local disk, not on a network file system.

Who opens a file to read only leaves no trace: no table, no log beside it. A file that is not of
these stores is refused before anything is written into it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeAlias

import bson
from bson.errors import BSONError
from maggma.core import Sort, Store
from mongomock_ng.filtering import filter_applies, iter_key_candidates, resolve_sort_key
from monty.json import jsanitize
from pydash import get, has, set_
from sentinels import NOTHING  # type: ignore[import-untyped]

from ionloop.schemas.errors import IonloopError
from ionloop.stores.sql_filter import (
    LOOK_INSIDE,
    ColumnValue,
    SqlFilter,
    column,
    column_value,
    field_value,
    quoted,
    sql_filter,
)

Document: TypeAlias = dict[str, Any]

Properties: TypeAlias = dict[str, Any] | list[str] | None

Sorting: TypeAlias = dict[str, Sort | int] | None


_CURES = {
    "SQLITE_BUSY": "Another process holds the file; wait for it or end it, then try again.",
    "SQLITE_CANTOPEN": "Check that its folder exists and may be written to.",
    "SQLITE_CONSTRAINT": "A document with the same unique fields exists; none was written.",
    "SQLITE_CORRUPT": "The file is damaged; restore a copy.",
    "SQLITE_FULL": "Free some disk space and try again; nothing was written.",
    "SQLITE_IOERR": "Check the disk; the file must lie on a local one.",
    "SQLITE_NOTADB": "This is not an SQLite file; name another one.",
    "SQLITE_READONLY": "Make the file and its folder writable.",
    "SQLITE_TOOBIG": "SQLite holds at most 1 GB per document; split the data.",
}


_NOT_ENCODABLE = (BSONError, ValueError, OverflowError)


class StoreError(IonloopError, RuntimeError):
    """A store cannot be opened, read or written; the message says what to do."""


class EmptyStoreError(StoreError):
    """A file without a table: made by hand, left by a run that was killed, or just being made."""


@dataclass
class _Link:
    """A connection, and what it knows of its file. Never shared with a forked process."""

    connection: sqlite3.Connection
    file: tuple[int, int]  # device and inode
    seen: tuple[int, ...] | None = None  # state of the file, where changes are not heard of
    process: int = field(default_factory=os.getpid)
    lock: threading.RLock = field(default_factory=threading.RLock)
    indexes: set[str] = field(default_factory=set)


# Closing a connection inherited by fork would harm the parent's: they are kept, unused.
_INHERITED: list[_Link] = []


class SqliteStore(Store):
    """A collection of documents in an SQLite file, with MongoDB's queries.

    One file holds any number of collections. A store may be used by several threads; a pickled
    copy must be connected again; after a fork the child opens its own connection.

    Parameters
    ----------
    path
        The SQLite file; created when missing, its folder is not.
    collection
        The name of the collection.
    key
        The field that identifies a document.
    indexed
        (Dotted) fields to index, beside the key.
    timeout
        How long to wait for another process's write, in s.
    read_only
        Write nothing, not even what is missing: a file without the collection has no documents.
    **kwargs
        Passed to `maggma.core.Store`: ``last_updated_field``, ``last_updated_type``, ``validator``.
    """

    def __init__(
        self,
        path: str | Path,
        collection: str,
        key: str = "uuid",
        indexed: Sequence[str] = (),
        timeout: float = 60.0,
        read_only: bool = False,
        **kwargs: Any,
    ) -> None:
        self.path = str(Path(path).absolute())
        self.collection = collection
        self.indexed = list(indexed)
        self.timeout = timeout
        self.read_only = read_only
        self.kwargs = kwargs
        self._table = quoted(collection)
        self._bodies = quoted(f"{collection}.documents")
        self._link: _Link | None = None
        super().__init__(key=key, **kwargs)

    @property
    def name(self) -> str:
        """File and collection, as a URL."""
        return f"sqlite://{self.path}#{self.collection}"

    @property
    def _collection(self) -> Any:
        raise StoreError(f"{self.name} has no pymongo collection; use the store's own methods.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SqliteStore) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def connect(self, force_reset: bool = False) -> None:
        """Open the file; create it, the collection and its indexes where missing, if allowed.

        Parameters
        ----------
        force_reset
            Open again even if connected.

        Raises
        ------
        StoreError
            If the file cannot be opened, or is of something else.
        """
        if force_reset:
            self.close()
        if self._link is not None:
            return
        self._link = self._open()
        if not self.read_only:
            self._create_tables()
            for name in [self.key, *self.indexed]:
                self.ensure_index(name)

    def close(self) -> None:
        """Close the connection; every update is already on disk."""
        if self._link is not None and self._link.process == os.getpid():
            with self._link.lock:
                self._link.connection.close()
        self._link = None

    def count(self, criteria: Document | None = None) -> int:
        """Count the documents that match a MongoDB filter."""
        return sum(1 for _ in self._matches(criteria))

    def query(
        self,
        criteria: Document | None = None,
        properties: Properties = None,
        sort: Sorting = None,
        skip: int = 0,
        limit: int = 0,
    ) -> Iterator[Document]:
        """Yield the documents that match a MongoDB filter.

        Parameters
        ----------
        criteria
            A MongoDB filter.
        properties
            Fields to return: a list of dotted paths, or a MongoDB projection of ones or zeros.
        sort
            Directions by field: 1 ascending, -1 descending.
        skip
            How many documents to leave out at the start.
        limit
            The most documents to return; 0 for all.
        """
        documents = self._sorted(criteria, sort)
        for document in islice(documents, skip, skip + limit if limit else None):
            yield _projected(document, properties)

    def update(self, docs: list[Document] | Document, key: list[str] | str | None = None) -> None:
        """Insert documents, each replacing the one with the same key. All are written, or none.

        Parameters
        ----------
        docs
            The documents.
        key
            The fields that identify a document, by default the store's key. They are indexed.

        Raises
        ------
        StoreError
            If a document has no value for the key, breaks a unique index or cannot be encoded,
            or if the file cannot be written.
        """
        fields = _listed(key or self.key)
        self.ensure_index(fields)
        with self._transaction() as connection:
            columns = self._columns()
            for document, body in self._encoded(_listed(docs)):
                values = {name: column_value(field_value(document, name)) for name in columns}
                self._put(connection, fields, values, body)

    def write_if(self, document: Document, criteria: Document) -> bool:
        """Write a document unless one with its key is there that does not match a MongoDB filter.

        Parameters
        ----------
        document
            With a value of the store's key.
        criteria
            Which document with the same key may be replaced.

        Returns
        -------
        bool
            Whether it was written. No other process writes in between.

        Raises
        ------
        StoreError
            As for `update`.
        """
        key = {self.key: field_value(document, self.key)}
        with self._transaction() as connection:
            if self.count(key) and not self.count({**key, **criteria}):
                return False
            columns = self._columns()
            plain, body = self._encode(document)
            values = {name: column_value(field_value(plain, name)) for name in columns}
            self._put(connection, [self.key], values, body)
        return True

    def remove_docs(self, criteria: Document) -> None:
        """Remove the documents that match a MongoDB filter."""
        with self._transaction() as connection:
            found = [(row,) for row, _ in self._matches(criteria)]
            connection.executemany(f"DELETE FROM {self._table} WHERE id = ?", found)
            connection.executemany(f"DELETE FROM {self._bodies} WHERE id = ?", found)

    def distinct(
        self, field: str, criteria: Document | None = None, all_exist: bool = False
    ) -> list[Any]:
        """Return the different values of a field; those inside arrays count one by one."""
        if not criteria and (words := self._distinct_words(field)) is not None:
            return words
        found: dict[bytes, Any] = {}
        for document in self.query(criteria):
            for value in iter_key_candidates(field, document):  # type: ignore[no-untyped-call]
                for item in value if isinstance(value, list) else [value]:
                    if item is not NOTHING:
                        found.setdefault(bson.encode({"": item}), item)
        return list(found.values())

    def _distinct_words(self, field: str) -> list[Any] | None:
        """Return the different values of an indexed field; None if not all are words."""
        if field not in self._columns():
            return None
        found = [
            row[0] for row in self._rows(f"SELECT DISTINCT {column(field)} FROM {self._table}")
        ]
        return found if all(isinstance(value, str) for value in found) else None

    def groupby(
        self,
        keys: list[str] | str,
        criteria: Document | None = None,
        properties: Properties = None,
        sort: Sorting = None,
        skip: int = 0,
        limit: int = 0,
    ) -> Iterator[tuple[Document, list[Document]]]:
        """Yield (key values, documents) for each combination of the keys' values.

        The other parameters are those of `query`. As in MongoDB, documents without a key form a
        group of their own.
        """
        names = _listed(keys)
        groups: dict[bytes, tuple[Document, list[Document]]] = {}
        for document in self.query(criteria, None, sort, skip, limit):
            group: Document = {}
            for name in names:
                if has(document, name):
                    set_(group, name, get(document, name))
            members = groups.setdefault(bson.encode(group), (group, []))[1]
            members.append(_projected(document, [*properties, *names] if properties else None))
        yield from groups.values()

    def ensure_index(self, key: str | Sequence[str], unique: bool = False) -> bool:
        """Index a field, or several together.

        Parameters
        ----------
        key
            The (dotted) field or fields.
        unique
            Refuse documents that agree in all of them. Arrays and objects are not compared.

        Returns
        -------
        bool
            Whether the index is there: False if documents already break a unique one.
        """
        fields = _listed(key)
        index = f"{self.collection}.{'+'.join(fields)}{'.unique' if unique else ''}"
        link = self._connected()
        if index in link.indexes or self._rows(
            "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?", [index]
        ):
            link.indexes.add(index)
            return True
        return self._create_index(index, fields, unique)

    def _open(self) -> _Link:
        with self._clear_errors():
            return self._open_to_read() if self.read_only else self._open_to_write()

    def _open_to_write(self) -> _Link:
        connection = self._connection(self.path)
        try:
            self._refuse_foreign(connection)
            self._use_write_ahead_log(connection)
            # FULL: a label bought outlives a power cut too, for one fsync an update.
            connection.execute("PRAGMA synchronous = FULL")
        except (sqlite3.Error, StoreError):
            connection.close()
            raise
        return _Link(connection, self._identity())

    def _open_to_read(self) -> _Link:
        # A reader makes a log where there is none, and leaves it behind, unless it is told that
        # nobody will write. Somebody does: then the file changes, or there is a log to read along.
        seen = self._state()
        alone = not seen[-1]
        link = _Link(
            self._connection(f"{Path(self.path).as_uri()}?mode=ro{'&immutable=1' * alone}"),
            self._identity(),
            seen=seen if alone else None,
        )
        try:
            self._refuse_foreign(link.connection)
        except (sqlite3.Error, StoreError):
            link.connection.close()
            raise
        return link

    def _connection(self, file: str) -> sqlite3.Connection:
        return sqlite3.connect(
            file,
            timeout=self.timeout,
            isolation_level=None,
            check_same_thread=False,
            uri=self.read_only,
        )

    def _refuse_foreign(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = sorted(name for (name,) in found)
        if tables and not any(f"{name}.documents" in tables for name in tables):
            raise StoreError(
                f"Store {self.path}: this is a database of something else (its tables: "
                f"{shorten(', '.join(tables), 80, placeholder=' …')}). Name another file."
            )
        if self.read_only and not tables:
            raise EmptyStoreError(
                f"Store {self.path}: the file is empty, no run was started in it. Name another one."
            )

    def _identity(self) -> tuple[int, int]:
        """Return device and inode of the file that has the name of the store; zeros for none."""
        try:
            found = Path(self.path).stat()
        except FileNotFoundError:
            return (0, 0)
        return (found.st_dev, found.st_ino)

    def _state(self) -> tuple[int, ...]:
        """Return what changes when somebody writes: times and sizes of the file and of its log."""
        return (*_time_and_size(Path(self.path)), *_time_and_size(Path(f"{self.path}-wal")))

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        """SQLite does not itself wait when several processes do this to a new file at once."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def _connected(self) -> _Link:
        if self._link is None:
            raise StoreError(f"{self.name} is not connected; call connect() first.")
        if self._link.process != os.getpid():
            _INHERITED.append(self._link)
            self._link = self._open()
        if self.read_only:
            if self._has_changed(self._link):
                self.close()
                self._link = self._open()
        elif self._link.file != self._identity():
            raise StoreError(
                f"Store {self.path}: the file was moved or deleted while it was in use, or another "
                "one took its place. Put it back, and go on."
            )
        return self._link

    def _has_changed(self, link: _Link) -> bool:
        """Whether a reader has to open its file anew to see what others did to it."""
        return link.file != self._identity() or link.seen not in (None, self._state())

    def _create_tables(self) -> None:
        if self._columns_or_none() is not None:
            return
        with self._transaction() as connection:
            for table, body in ((self._table, ""), (self._bodies, ", body BLOB NOT NULL")):
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY{body})"
                )

    def _columns_or_none(self) -> list[str] | None:
        """Return the indexed fields, or None where the table is not there yet."""
        found = [row[1] for row in self._rows(f"PRAGMA table_info({self._table})")]
        return [name.removeprefix("field:") for name in found[1:]] if found else None

    def _columns(self) -> list[str]:
        # Asked anew each time: another process may have added a column that must be filled.
        return self._columns_or_none() or []

    def _create_index(self, index: str, fields: list[str], unique: bool) -> bool:
        names = [column(name) for name in fields]
        inside = " OR ".join(f"{name} IS x''" for name in names)
        terms = [f"ifnull({name}, x'00')" for name in names] if unique else names
        sql = f"INDEX IF NOT EXISTS {quoted(index)} ON {self._table} ({', '.join(terms)})"
        try:
            with self._transaction() as connection:
                self._add_columns(connection, fields)
                connection.execute(
                    f"CREATE UNIQUE {sql} WHERE NOT ({inside})" if unique else f"CREATE {sql}"
                )
        except StoreError as error:
            if isinstance(error.__cause__, sqlite3.IntegrityError):
                return False
            raise
        return self.ensure_index(fields) if unique else True

    def _add_columns(self, connection: sqlite3.Connection, fields: list[str]) -> None:
        for name in set(fields) - set(self._columns()):
            connection.execute(f"ALTER TABLE {self._table} ADD COLUMN {column(name)}")
            fill = f"UPDATE {self._table} SET {column(name)} = ? WHERE id = ?"
            for row, body in connection.execute(f"SELECT id, body FROM {self._bodies}"):
                value = column_value(field_value(bson.decode(body), name))
                connection.execute(fill, [value, row])

    def _put(
        self,
        connection: sqlite3.Connection,
        fields: list[str],
        values: dict[str, ColumnValue],
        body: bytes,
    ) -> None:
        row = self._row_of(connection, {name: values[name] for name in fields})
        names = ["id", *map(column, values)]
        cursor = connection.execute(
            f"INSERT INTO {self._table} ({', '.join(names)}) VALUES (?{', ?' * len(values)}) "
            f"ON CONFLICT(id) DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in names)}",
            [row, *values.values()],
        )
        row = cursor.lastrowid if row is None else row
        connection.execute(f"REPLACE INTO {self._bodies} (id, body) VALUES (?, ?)", [row, body])

    def _row_of(self, connection: sqlite3.Connection, values: dict[str, ColumnValue]) -> int | None:
        for name, value in values.items():
            if value is None or value == LOOK_INSIDE:
                raise StoreError(
                    f"A document for {self.name} has no usable value of its key {name!r}; "
                    "give it a number, a string, a boolean or a time."
                )
        where = " AND ".join(f"{column(name)} = ?" for name in values)
        sql = f"SELECT id FROM {self._table} WHERE {where} LIMIT 1"
        found = connection.execute(sql, list(values.values())).fetchone()
        return found[0] if found else None

    def _encoded(self, documents: list[Document]) -> Iterator[tuple[Document, bytes]]:
        for document in documents:
            if self._is_valid(document):
                yield self._encode(document)

    def _encode(self, document: Document) -> tuple[Document, bytes]:
        try:
            return document, bson.encode(document)
        except _NOT_ENCODABLE:
            plain = jsanitize(document, allow_bson=True, recursive_msonable=True)
        try:
            return plain, bson.encode(plain)
        except _NOT_ENCODABLE as error:
            raise StoreError(f"A document for {self.name} cannot be stored: {error}.") from error

    def _is_valid(self, document: Document) -> bool:
        if self.validator is None or self.validator.is_valid(document):
            return True
        reasons = self.validator.validation_errors(document)
        if self.validator.strict:  # type: ignore[attr-defined]
            raise ValueError(f"A document for {self.name} is not valid: {reasons}")
        self.logger.error("left out of %s, not valid: %s", self.name, reasons)
        return False

    def _sorted(self, criteria: Document | None, sort: Sorting) -> Iterable[Document]:
        order = {name: Sort(direction).value for name, direction in (sort or {}).items()}
        if self._sorts_by_column(order):
            return self._documents(criteria, order)
        documents = list(self._documents(criteria))
        for name, direction in reversed(order.items()):
            documents.sort(key=partial(_sort_key, name), reverse=direction < 0)
        return documents

    def _sorts_by_column(self, order: dict[str, int]) -> bool:
        if not order:
            return True
        if not set(order) <= set(self._columns()):
            return False
        inside = " OR ".join(f"{column(name)} = x''" for name in order) or "0"
        return not self._rows(f"SELECT 1 FROM {self._table} WHERE {inside} LIMIT 1")

    def _documents(
        self, criteria: Document | None, order: dict[str, int] | None = None
    ) -> Iterator[Document]:
        for row, document in self._matches(criteria, order):
            found = document or self._document(row)
            if found is not None:
                yield found

    def _matches(
        self, criteria: Document | None, order: dict[str, int] | None = None
    ) -> Iterator[tuple[int, Document | None]]:
        """Yield the matching rows, with the documents of those that had to be read to tell."""
        # What a server would compare with: times in UTC to the ms, tuples as lists.
        wanted = bson.decode(self._encode(criteria or {})[1])
        columns = self._columns_or_none()
        if columns is None:
            return
        plan = sql_filter(wanted, columns)
        for row, undecided in self._candidates(plan, order or {}):
            rest = wanted if undecided else plan.rest
            document = self._document(row) if rest else None
            if not rest or (document is not None and _fits(rest, document)):
                yield row, document

    def _candidates(self, plan: SqlFilter, order: dict[str, int]) -> list[tuple[int, int]]:
        # Fetched at once: a statement left open would pin an old state of the file.
        undecided = " OR ".join(f"{column(name)} IS x''" for name in plan.columns) or "0"
        sql = f"SELECT id, {undecided} FROM {self._table} WHERE {plan.where}"
        if not order:
            return sorted(self._rows(sql, plan.values))
        terms = [f"{column(name)} {'DESC' if way < 0 else 'ASC'}" for name, way in order.items()]
        return self._rows(f"{sql} ORDER BY {', '.join(terms)}, id", plan.values)

    def _document(self, row: int) -> Document | None:
        found = self._rows(f"SELECT body FROM {self._bodies} WHERE id = ?", [row])
        return bson.decode(found[0][0]) if found else None

    def _rows(self, sql: str, values: Sequence[ColumnValue] = ()) -> list[Any]:
        link = self._connected()
        with link.lock, self._clear_errors():
            return link.connection.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        link = self._connected()
        with link.lock, self._clear_errors():
            link.connection.execute("BEGIN IMMEDIATE")
            try:
                yield link.connection
                link.connection.execute("COMMIT")
            finally:
                if link.connection.in_transaction:
                    link.connection.execute("ROLLBACK")

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorname", "")
            cure = next((text for name, text in _CURES.items() if code.startswith(name)), "")
            raise StoreError(f"Store {self.name}: {error}. {cure}".rstrip()) from error


def _time_and_size(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except FileNotFoundError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def _sort_key(name: str, document: Document) -> Any:
    return resolve_sort_key(name, document)  # type: ignore[no-untyped-call]


def _fits(criteria: Document, document: Document) -> bool:
    return bool(filter_applies(criteria, document))  # type: ignore[no-untyped-call]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _projected(document: Document, properties: Properties) -> Document:
    """Return the part of a document that a MongoDB projection of ones or zeros asks for."""
    if not properties:
        return document
    wanted = properties if isinstance(properties, dict) else dict.fromkeys(properties, 1)
    if not all(value in (0, 1) for value in wanted.values()):
        raise StoreError(f"Projection {wanted} is not supported; use ones or zeros.")
    names = set(wanted) - {"_id"}
    keep = any(wanted[name] for name in names or wanted)
    if bool(wanted.get("_id", keep)) == keep:
        names.add("_id")
    part: Document = (_kept if keep else _dropped)(document, _tree(names))
    return part


def _tree(names: Iterable[str]) -> Document:
    """Return dotted paths as nested dictionaries; an empty one stands for the whole field."""
    tree: Document = {}
    for name in sorted(names):
        branch = tree
        for part in name.split("."):
            branch = branch.setdefault(part, {})
    return tree


def _kept(value: Any, tree: Document) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_kept(item, tree) for item in value if isinstance(item, dict | list)]
    return {
        name: _kept(part, tree[name])
        for name, part in value.items()
        if name in tree and (not tree[name] or isinstance(part, dict | list))
    }


def _dropped(value: Any, tree: Document) -> Any:
    if isinstance(value, list):
        return [_dropped(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _dropped(part, tree[name]) if name in tree else part
        for name, part in value.items()
        if tree.get(name) != {}
    }
