"""A maggma store in one SQLite file: the embedded stand-in for MongoDB.

Documents are kept as BSON, MongoDB's own format, so that times, bytes, NaN and infinities come
back exactly as a MongoDB server would return them (JSON would turn NaN into null).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import bson
from bson.errors import BSONError
from maggma.core import Sort, Store
from mongomock_ng.filtering import iter_key_candidates, resolve_sort_key
from monty.json import jsanitize
from pydash import pick
from sentinels import NOTHING  # type: ignore[import-untyped]

from ionloop.stores.errors import StoreError
from ionloop.stores.projection import Document, Properties, projected
from ionloop.stores.sql_filter import field_value
from ionloop.stores.sqlite_file import SqliteFile
from ionloop.stores.sqlite_table import SqliteTable

Sorting: TypeAlias = dict[str, Sort | int] | None


_NOT_ENCODABLE = (BSONError, ValueError, OverflowError)


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
        self.file = SqliteFile(self.path, self.name, timeout, read_only)
        self._table = SqliteTable(self.file, collection)
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
            If the file cannot be opened, or belongs to something else.
        """
        if force_reset:
            self.close()
        if self.file.open() and not self.read_only:
            self._table.create()
            for name in [self.key, *self.indexed]:
                self.ensure_index(name)

    def close(self) -> None:
        """Close the connection; every update is already on disk."""
        self.file.close()

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
            yield projected(document, properties)

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
        with self.file.transaction() as connection:
            valid = filter(self._is_valid, _listed(docs))
            self._table.write(connection, fields, map(self._encode, valid))

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
            Whether it was written. No other process can write in between.

        Raises
        ------
        StoreError
            As for `update`.
        """
        key = {self.key: field_value(document, self.key)}
        with self.file.transaction() as connection:
            if self.count(key) and not self.count({**key, **criteria}):
                return False
            self._table.write(connection, [self.key], [self._encode(document)])
        return True

    def remove_docs(self, criteria: Document) -> None:
        """Remove the documents that match a MongoDB filter."""
        with self.file.transaction() as connection:
            found = [row for row, _ in self._matches(criteria)]
            self._table.remove(connection, found)

    def distinct(
        self, field: str, criteria: Document | None = None, all_exist: bool = False
    ) -> list[Any]:
        """Return the different values of a field; those inside arrays count one by one.

        Parameters
        ----------
        field
            The (dotted) field.
        criteria
            A MongoDB filter.
        all_exist
            Not used: a document without the field gives no value.
        """
        if not criteria and (texts := self._table.distinct_texts(field)) is not None:
            return texts
        found: dict[bytes, Any] = {}
        for document in self.query(criteria):
            for value in iter_key_candidates(field, document):  # type: ignore[no-untyped-call]
                for item in value if isinstance(value, list) else [value]:
                    if item is not NOTHING:
                        found.setdefault(bson.encode({"": item}), item)
        return list(found.values())

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

        As in MongoDB, documents without a key form a group of their own.

        Parameters
        ----------
        keys
            The (dotted) fields.
        criteria, properties, sort, skip, limit
            As for `query`.
        """
        names = _listed(keys)
        groups: dict[bytes, tuple[Document, list[Document]]] = {}
        for document in self.query(criteria, None, sort, skip, limit):
            group = pick(document, *names)
            members = groups.setdefault(bson.encode(group), (group, []))[1]
            members.append(projected(document, [*properties, *names] if properties else None))
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
        return self._table.ensure_index(_listed(key), unique)

    def sizes(self, field: str) -> dict[Any, int]:
        """Return the bytes of all documents by the value of an indexed field."""
        return self._table.sizes(field)

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
        if not order or self._table.can_sort_by(order):
            return self._documents(criteria, order)
        documents = list(self._documents(criteria))
        for name, direction in reversed(order.items()):
            documents.sort(
                key=lambda document, name=name: resolve_sort_key(name, document),  # type: ignore
                reverse=direction < 0,
            )
        return documents

    def _documents(
        self, criteria: Document | None, order: dict[str, int] | None = None
    ) -> Iterator[Document]:
        for row, document in self._matches(criteria, order):
            found = document or self._table.document(row)
            if found is not None:
                yield found

    def _matches(
        self, criteria: Document | None, order: dict[str, int] | None = None
    ) -> Iterator[tuple[int, Document | None]]:
        # What a server would compare with: times in UTC to the ms, tuples as lists.
        wanted = bson.decode(self._encode(criteria or {})[1])
        return self._table.matches(wanted, order)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
