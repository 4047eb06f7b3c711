"""The names that version 0.1 had here; today they are in `ionloop.api`."""

from __future__ import annotations

from ionloop.api import Report, RunFile, RunFileError, check, load, resume, start, submit
from ionloop.schemas.moved import redirect

__all__ = ["Report", "RunFile", "RunFileError", "check", "load", "resume", "start", "submit"]
__path__: list[str] = []  # modules below this one are found by the redirect

redirect()
