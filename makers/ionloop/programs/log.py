"""What programs write into their logs."""

from __future__ import annotations

import re
from pathlib import Path

LONGEST_LINE = 300
"""Characters of a line of a log that are repeated in a message."""


_TELLING = re.compile(
    r"error|exception|fail|abort|fatal|killed|refused|denied|cannot|can't|not found|no such|"
    r"no space|out of memory|segmentation|nan\b",
    re.IGNORECASE,
)

_IDLE = re.compile(
    r"^\W*$|^Traceback|^\s+File \"|^implib-gen:|^DeePMD-kit: (Cannot find|Error message: libcudart)"
    r"|^MPI_ABORT was invoked on rank|^Last command:|^application called MPI_Abort"
)

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]+")


def readable(text: str) -> str:
    """Return text without control characters, so that a terminal shows it as it is."""
    return _CONTROL.sub("", text.replace("\r", "\n"))


def log_text(log: Path) -> str:
    """Return the readable text of a log, nothing if it is not there."""
    return readable(log.read_text(errors="replace")) if log.exists() else ""


def last_words(text: str) -> str:
    """Return the last line of a program's output that says what went wrong.

    Without such a line it is the last one that is not empty; without any, nothing.
    """
    lines = [line.strip() for line in text.splitlines() if not _IDLE.match(line)]
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or lines or [""])[-1][:LONGEST_LINE]


def last_lines(log: Path, n_lines: int = 12) -> str:
    """Return the line of a log that says what went wrong, and its end, as the end of a sentence.

    Parameters
    ----------
    log
        The log.
    n_lines
        How many lines of its end are returned.
    """
    said = last_words(log_text(log))
    return f": {said}{end_of_log(log, n_lines)}" if said else f"; {log} is empty"


def end_of_log(log: Path, n_lines: int = 12) -> str:
    """Return the end of a log, as lines below a sentence; nothing if it is empty.

    Parameters
    ----------
    log
        The log.
    n_lines
        How many lines.
    """
    told = [line.rstrip() for line in log_text(log).splitlines() if line.strip()]
    return "\n".join([f"\nThe end of {log}:", *told[-n_lines:]]) if told else ""
