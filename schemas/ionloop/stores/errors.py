"""Errors of the stores."""

from __future__ import annotations

from ionloop.schemas.errors import IonloopError


class StoreError(IonloopError, RuntimeError):
    """A store cannot be opened, read or written; the message says what to do."""


class EmptyStoreError(StoreError):
    """A file without a table: made by hand, left by a run that was killed, or just being made."""
