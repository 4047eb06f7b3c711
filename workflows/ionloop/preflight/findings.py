"""What the pre-flight check finds."""

from __future__ import annotations

from typing import Literal

from ionloop.schemas.document import Model


class Finding(Model):
    """One thing that was looked at before a run."""

    level: Literal["ok", "warning", "error"]
    key: str
    """key of the run file that it concerns"""
    sentence: str
    cure: str = ""
    """what to do about it"""


def ok(key: str, sentence: str) -> Finding:
    """Return a finding that says what is in order.

    Parameters
    ----------
    key
        Key of the run file that it concerns.
    sentence
        What was found.
    """
    return Finding(level="ok", key=key, sentence=sentence)


def warning(key: str, sentence: str, cure: str = "") -> Finding:
    """Return a finding with which the run may still start.

    Parameters
    ----------
    key
        Key of the run file that it concerns.
    sentence
        What was found.
    cure
        What to do about it, if anything.
    """
    return Finding(level="warning", key=key, sentence=sentence, cure=cure)


def error(key: str, sentence: str, cure: str = "") -> Finding:
    """Return a finding with which the run does not start.

    Parameters
    ----------
    key
        Key of the run file that it concerns.
    sentence
        What was found.
    cure
        What to do about it, if anything.
    """
    return Finding(level="error", key=key, sentence=sentence, cure=cure)


def sentence_of(problem: BaseException) -> str:
    """Return the message of an error, or its type where it has none."""
    return str(problem) or type(problem).__name__
