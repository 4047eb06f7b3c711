"""Texts of one form; an error describes the form in words instead of by a regular expression."""

from __future__ import annotations

import re

from pydantic import AfterValidator


def matching(pattern: str, words: str) -> AfterValidator:
    """Return a validator of a text's form.

    Parameters
    ----------
    pattern
        Regular expression that the whole text matches.
    words
        The form in words, behind "expected", such as "a time as hours:minutes".
    """
    form = re.compile(pattern)

    def check(text: str) -> str:
        if not form.fullmatch(text):
            raise ValueError(f"expected {words}")
        return text

    return AfterValidator(check)
