"""The run file: read it, check it, run it."""

from __future__ import annotations

from ionloop.config.check import Report, check
from ionloop.config.engines import submit
from ionloop.config.errors import RunFileError
from ionloop.config.launch import resume, start
from ionloop.config.run_file import RunFile, load

__all__ = ["Report", "RunFile", "RunFileError", "check", "load", "resume", "start", "submit"]
