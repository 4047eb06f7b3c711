"""The table of a collection: indexed fields in columns, the documents themselves as BSON.

A second table holds the bodies, so that a search for rows does not read past them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

import bson
from mongomock_ng.filtering import filter_applies

from ionloop.stores.errors import StoreError
from ionloop.stores.projection import Document
from ionloop.stores.sql_filter import (
    LOOK_INSIDE,
    ColumnValue,
    column,
    column_value,
    field_value,
    quoted,
    sql_filter,
)
from ionloop.stores.sqlite_file import SqliteFile


class SqliteTable:
    """The rows of a collection.

    Parameters
    ----------
    file
        The SQLite file.
    collection
        Name of the collection.
    """

    def __init__(self, file: SqliteFile, collection: str) -> None:
        self.file = file
        self.collection = collection
        self._name = quoted(collection)
        self._bodies = quoted(f"{collection}.documents")

    def create(self) -> None:
        """Create the two tables where they are missing."""
        if self._columns_or_none() is not None:
            return
        with self.file.transaction() as connection:
            for table, body in ((self._name, ""), (self._bodies, ", body BLOB NOT NULL")):
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY{body})"
                )

    def columns(self) -> list[str]:
        """Return the indexed fields."""
        # Asked anew each time: another process may have added a column that must be filled.
        return self._columns_or_none() or []

    def ensure_index(self, fields: list[str], unique: bool = False) -> bool:
        """Index fields together; return False if documents already break a unique index.

        Parameters
        ----------
        fields
            The (dotted) fields.
        unique
            Refuse documents that agree in all of them.
        """
        index = f"{self.collection}.{'+'.join(fields)}{'.unique' if unique else ''}"
        known = self.file.indexes
        if index in known or self.file.rows(
            "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?", [index]
        ):
            known.add(index)
            return True
        return self._create_index(index, fields, unique)

    def write(
        self,
        connection: sqlite3.Connection,
        fields: list[str],
        encoded: Iterable[tuple[Document, bytes]],
    ) -> None:
        """Insert documents, each in place of the one that has the same values of some fields.

        Parameters
        ----------
        connection
            In a transaction.
        fields
            The fields that identify a document; they have columns.
        encoded
            The documents and their BSON.
        """
        columns = self.columns()
        for document, body in encoded:
            values = {name: column_value(field_value(document, name)) for name in columns}
            row = self._row_of(connection, {name: values[name] for name in fields})
            names = ["id", *map(column, values)]
            cursor = connection.execute(
                f"INSERT INTO {self._name} ({', '.join(names)}) VALUES (?{', ?' * len(values)}) "
                f"ON CONFLICT(id) DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in names)}",
                [row, *values.values()],
            )
            row = cursor.lastrowid if row is None else row
            connection.execute(f"REPLACE INTO {self._bodies} (id, body) VALUES (?, ?)", [row, body])

    def remove(self, connection: sqlite3.Connection, rows: Iterable[int]) -> None:
        """Remove rows and their documents.

        Parameters
        ----------
        connection
            In a transaction.
        rows
            Ids of the rows.
        """
        found = [(row,) for row in rows]
        for table in (self._name, self._bodies):
            connection.executemany(f"DELETE FROM {table} WHERE id = ?", found)

    def matches(
        self, wanted: Document, order: dict[str, int] | None = None
    ) -> Iterator[tuple[int, Document | None]]:
        """Yield the matching rows, with the documents of those that had to be read to tell.

        Parameters
        ----------
        wanted
            A MongoDB filter, as BSON gives it back: times in UTC to the ms, tuples as lists.
        order
            Fields with a column to sort by: 1 ascending, -1 descending.
        """
        columns = self._columns_or_none()
        if columns is None:
            return
        plan = sql_filter(wanted, columns)
        # Fetched at once: a statement left open would pin an old state of the file.
        undecided = " OR ".join(f"{column(name)} IS x''" for name in plan.columns) or "0"
        sql = f"SELECT id, {undecided} FROM {self._name} WHERE {plan.where}"
        if order:
            terms = [
                f"{column(name)} {'DESC' if way < 0 else 'ASC'}" for name, way in order.items()
            ]
            candidates = self.file.rows(f"{sql} ORDER BY {', '.join(terms)}, id", plan.values)
        else:
            candidates = sorted(self.file.rows(sql, plan.values))
        for row, is_undecided in candidates:
            rest = wanted if is_undecided else plan.rest
            document = self.document(row) if rest else None
            if not rest or (document is not None and filter_applies(rest, document)):  # type: ignore[no-untyped-call]
                yield row, document

    def document(self, row: int) -> Document | None:
        """Return the document of a row, None if it was removed meanwhile."""
        found = self.file.rows(f"SELECT body FROM {self._bodies} WHERE id = ?", [row])
        return bson.decode(found[0][0]) if found else None

    def can_sort_by(self, fields: Iterable[str]) -> bool:
        """Whether columns tell the order of the documents: no field holds an array or an object."""
        names = list(fields)
        if not set(names) <= set(self.columns()):
            return False
        inside = " OR ".join(f"{column(name)} = x''" for name in names) or "0"
        return not self.file.rows(f"SELECT 1 FROM {self._name} WHERE {inside} LIMIT 1")

    def distinct_texts(self, field: str) -> list[Any] | None:
        """Return the different values of an indexed field; None if not all are texts."""
        if field not in self.columns():
            return None
        found = self.file.rows(f"SELECT DISTINCT {column(field)} FROM {self._name}")
        return [value for (value,) in found] if all(isinstance(v, str) for (v,) in found) else None

    def sizes(self, field: str) -> dict[Any, int]:
        """Return the bytes of all documents by the value of an indexed field."""
        if field not in self.columns():
            return {}
        found = self.file.rows(
            f"SELECT {column(field)}, sum(length(body)) FROM {self._name} "
            f"JOIN {self._bodies} USING (id) GROUP BY 1"
        )
        return dict(found)

    def _columns_or_none(self) -> list[str] | None:
        """Return the indexed fields, or None where the table is not there yet."""
        found = [row[1] for row in self.file.rows(f"PRAGMA table_info({self._name})")]
        return [name.removeprefix("field:") for name in found[1:]] if found else None

    def _create_index(self, index: str, fields: list[str], unique: bool) -> bool:
        names = [column(name) for name in fields]
        inside = " OR ".join(f"{name} IS x''" for name in names)
        terms = [f"ifnull({name}, x'00')" for name in names] if unique else names
        sql = f"INDEX IF NOT EXISTS {quoted(index)} ON {self._name} ({', '.join(terms)})"
        try:
            with self.file.transaction() as connection:
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
        for name in set(fields) - set(self.columns()):
            connection.execute(f"ALTER TABLE {self._name} ADD COLUMN {column(name)}")
            fill = f"UPDATE {self._name} SET {column(name)} = ? WHERE id = ?"
            for row, body in connection.execute(f"SELECT id, body FROM {self._bodies}"):
                value = column_value(field_value(bson.decode(body), name))
                connection.execute(fill, [value, row])

    def _row_of(self, connection: sqlite3.Connection, values: dict[str, ColumnValue]) -> int | None:
        for name, value in values.items():
            if value is None or value == LOOK_INSIDE:
                raise StoreError(
                    f"A document for {self.file.name} has no usable value of its key {name!r}; "
                    "give it a number, a string, a boolean or a time."
                )
        where = " AND ".join(f"{column(name)} = ?" for name in values)
        sql = f"SELECT id FROM {self._name} WHERE {where} LIMIT 1"
        found = connection.execute(sql, list(values.values())).fetchone()
        return found[0] if found else None
