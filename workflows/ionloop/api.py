"""The public face of ionloop: the names that users need, in one place.

>>> from ionloop.api import load, start
>>> run_file = load("run.yaml")  # doctest: +SKIP
>>> ended = start(run_file)  # doctest: +SKIP
"""

from __future__ import annotations

from ionloop.preflight.check import Report, check
from ionloop.runfile.errors import RunFileError
from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import load
from ionloop.runs.launch import resume, start
from ionloop.runs.queue import submit

__all__ = ["Report", "RunFile", "RunFileError", "check", "load", "resume", "start", "submit"]
