"""What every error of ionloop's own has in common."""

from __future__ import annotations


class IonloopError(Exception):
    """Something foreseen stands in the way: the message is a sentence for the user.

    Every error of ionloop's own derives from it, beside the built-in error that it is a kind of.
    What does not derive from it, such as a ValueError out of a library, is a fault of ionloop's.
    """


class InputError(IonloopError, ValueError):
    """What the user gave cannot be taken; the message says why and what to give instead."""


class OutsideError(IonloopError, OSError):
    """Something outside of ionloop refuses: a file, a disk, a server; the message says what."""
