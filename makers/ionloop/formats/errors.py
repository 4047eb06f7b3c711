"""Errors of files of frames."""

from __future__ import annotations

from ionloop.schemas.errors import IonloopError


class FrameFileError(IonloopError, ValueError):
    """A file cannot be read as frames, or frames cannot be written as asked."""
