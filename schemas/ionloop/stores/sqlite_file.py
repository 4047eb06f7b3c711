"""The connection to an SQLite file: open it, notice what happens to it, read and write.

The file uses SQLite's write-ahead log: readers never wait, writers of any number of processes
queue, and a killed writer leaves the state before its update. The log needs shared memory, so
the file must lie on a local disk, not on a network file system.

Opening a file to read only leaves no trace: no table, and no log beside it. A file that does not
belong to these stores is refused before anything is written into it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from textwrap import shorten
from typing import Any

from ionloop.stores.errors import EmptyStoreError, StoreError
from ionloop.stores.sql_filter import ColumnValue

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


@dataclass
class _Link:
    """A connection, and what is known of its file. Never shared with a forked process."""

    connection: sqlite3.Connection
    file: tuple[int, ...]  # device and inode
    seen: tuple[int, ...] | None = None  # state of the file, where SQLite reports no changes
    process: int = field(default_factory=os.getpid)
    lock: threading.RLock = field(default_factory=threading.RLock)
    indexes: set[str] = field(default_factory=set)


# Closing a connection inherited by fork would harm the parent's: they are kept, unused.
_INHERITED: list[_Link] = []


class SqliteFile:
    """A connection to an SQLite file, for several threads; a forked process opens its own.

    Parameters
    ----------
    path
        The file; created when missing, its folder is not.
    name
        Name of the store, for messages.
    timeout
        How long to wait for another process's write, in s.
    read_only
        Write nothing, not even what is missing.
    """

    def __init__(self, path: str, name: str, timeout: float, read_only: bool) -> None:
        self.path = path
        self.name = name
        self.timeout = timeout
        self.read_only = read_only
        self._link: _Link | None = None

    @property
    def indexes(self) -> set[str]:
        """Names of indexes that were seen through this connection; to be added to."""
        return self._connected().indexes

    @property
    def size(self) -> int:
        """Bytes of the file and of its log."""
        return sum(self._state()[1::2])

    @property
    def free_space(self) -> int:
        """Bytes of the file that hold nothing."""
        names = ("freelist_count", "page_size")
        return prod(int(self.rows(f"PRAGMA {name}")[0][0]) for name in names)

    def open(self) -> bool:
        """Open the file unless it is open already; return whether it was not.

        Raises
        ------
        StoreError
            If the file cannot be opened, or belongs to something else.
        """
        if self._link is not None:
            return False
        self._link = self._opened()
        return True

    def close(self) -> None:
        """Close the connection; every update is already on disk."""
        if self._link is not None and self._link.process == os.getpid():
            with self._link.lock:
                self._link.connection.close()
        self._link = None

    def rows(self, sql: str, values: Sequence[ColumnValue] = ()) -> list[Any]:
        """Return all rows that a statement gives.

        Parameters
        ----------
        sql
            The statement.
        values
            What its question marks stand for.

        Raises
        ------
        StoreError
            If SQLite refuses.
        """
        link = self._connected()
        with link.lock, self._clear_errors():
            return link.connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection, for writes of which all are done or none."""
        link = self._connected()
        with link.lock, self._clear_errors():
            link.connection.execute("BEGIN IMMEDIATE")
            try:
                yield link.connection
                link.connection.execute("COMMIT")
            finally:
                if link.connection.in_transaction:
                    link.connection.execute("ROLLBACK")

    def compact(self) -> None:
        """Give the space of removed documents back to the disk.

        Raises
        ------
        StoreError
            If another process writes, or the disk has no room for a second copy meanwhile.
        """
        self.rows("VACUUM")
        self.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def _opened(self) -> _Link:
        file, seen = self.path, None
        if self.read_only:
            # A reader makes a log where there is none, and leaves it behind, unless SQLite is told
            # that nobody will write. If somebody does, the file changes, or there is a log already.
            state = self._state()
            alone = not state[-1]
            file = f"{Path(self.path).as_uri()}?mode=ro{'&immutable=1' * alone}"
            seen = state if alone else None
        with self._clear_errors():
            connection = sqlite3.connect(
                file,
                timeout=self.timeout,
                isolation_level=None,
                check_same_thread=False,
                uri=self.read_only,
            )
            link = _Link(connection, self._identity(), seen)
            try:
                self._refuse_foreign(connection)
                if not self.read_only:
                    self._use_write_ahead_log(connection)
                    # FULL: a label outlives a power cut too, for one fsync an update.
                    connection.execute("PRAGMA synchronous = FULL")
            except (sqlite3.Error, StoreError):
                connection.close()
                raise
        return link

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

    def _identity(self) -> tuple[int, ...]:
        """Return device and inode of the file that has the name of the store; zeros for none."""
        return _found(Path(self.path))[:2]

    def _state(self) -> tuple[int, ...]:
        """Return what changes when somebody writes: times and sizes of the file and of its log."""
        return (*_found(Path(self.path))[2:], *_found(Path(f"{self.path}-wal"))[2:])

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        """Switch the log on; SQLite does not wait when several processes do so at once."""
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
            self._link = self._opened()
        moved = self._link.file != self._identity()
        if self.read_only:
            # A reader has to open its file anew to see what others did to it.
            if moved or self._link.seen not in (None, self._state()):
                self.close()
                self._link = self._opened()
        elif moved:
            raise StoreError(
                f"Store {self.path}: the file was moved or deleted while it was in use, or another "
                "one took its place. Put it back, and go on."
            )
        return self._link

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorname", "")
            cure = next((text for name, text in _CURES.items() if code.startswith(name)), "")
            raise StoreError(f"Store {self.name}: {error}. {cure}".rstrip()) from error


def _found(file: Path) -> tuple[int, int, int, int]:
    """Return device, inode, time and size of a file; zeros where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return (0, 0, 0, 0)
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
