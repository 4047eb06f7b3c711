"""The base classes of ionloop's errors."""

from __future__ import annotations


class IonloopError(Exception):
    """Something expected went wrong: the message is a sentence for the user.

    Every error that ionloop raises for its users derives from it, and from the built-in error that
    it is a kind of. Any other error, such as a ValueError of a library, is a fault in ionloop.
    """


class InputError(IonloopError, ValueError):
    """An input cannot be used; the message says why and what to give instead."""


class MissingFileError(IonloopError, FileNotFoundError):
    """A file that the user named does not exist; the message says which, and what to check."""


class UnsupportedError(IonloopError, NotImplementedError):
    """A code cannot do what is asked of it; the message says what to do instead."""
