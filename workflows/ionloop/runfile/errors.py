"""Turn pydantic's errors into readable lines: file, line, key, value, what is expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from ionloop.schemas.errors import IonloopError

KeyPath = tuple[str | int, ...]

AllowedKeys = Callable[[KeyPath, Any], list[str]]


LONGEST_VALUE = 60


class RunFileError(IonloopError, ValueError):
    """A run file is refused; the message has a line for every error."""


@dataclass(frozen=True)
class Source:
    """Where the data of a run file were read.

    Parameters
    ----------
    path
        The file.
    data
        Its content as plain values.
    marks
        Its content as ruamel.yaml's round-trip types, which know their lines.
    """

    path: Path
    data: Any
    marks: Any

    def line(self, keys: KeyPath) -> int:
        """Return the line of a key, or of the nearest one above it that is there; 0: the file."""
        node, line = self.marks, 0
        for key in keys:
            try:
                found = node.lc.item(key) if isinstance(key, int) else node.lc.key(key)
                node = node[key]
            except (AttributeError, KeyError, IndexError, TypeError):
                break
            line = found[0] + 1
        return line


def refused(place: KeyPath, message: str, value: Any) -> ValidationError:
    """Return the error of a value that is refused, by itself or because of another value.

    Parameters
    ----------
    place
        Key path of the value, from the section that is validated.
    message
        What is wrong with it, or what is expected.
    value
        The value.
    """
    return all_refused([(place, message, value)])


def all_refused(values: Iterable[tuple[KeyPath, str, Any]]) -> ValidationError:
    """Return the error of several values, each with its key path and what is wrong with it."""
    problems: list[InitErrorDetails] = [
        {
            "type": PydanticCustomError("refused", "{message}", {"message": message}),
            "loc": place,
            "input": value,
        }
        for place, message, value in values
    ]
    return ValidationError.from_exception_data("run file", problems)


def explain(error: ValidationError, source: Source, allowed: AllowedKeys) -> RunFileError:
    """Return the errors in readable lines.

    Parameters
    ----------
    error
        What pydantic found.
    source
        The data that were validated.
    allowed
        Returns the known keys of a section from its key path and the data.
    """
    located = [(_key_path(details, source.data), details) for details in error.errors()]
    lines = sorted(
        (source.line(keys), _sentence(keys, [details for _, details in group], source, allowed))
        for keys, group in groupby(located, key=itemgetter(0))
    )
    return RunFileError(
        "\n".join(f"{source.path}{f', line {n}' if n else ''}: {text}" for n, text in lines)
    )


def dotted(keys: KeyPath) -> str:
    """Return a key path as text, such as ``stages[0].steps``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{_printable(key)}" for key in keys)
    return text.removeprefix(".")


def _printable(key: Any) -> str:
    """Return a key as one word of a sentence, whatever letters it has."""
    text = str(key)
    return _cut(text if text.isprintable() and text.strip() else repr(key))


def _key_path(details: ErrorDetails, data: Any) -> KeyPath:
    """Return the part of pydantic's location that is in the data; the rest names union members."""
    keys: KeyPath = ()
    for key in details["loc"]:
        is_list = isinstance(data, Sequence) and not isinstance(data, str)
        there = range(len(data)) if is_list else data if isinstance(data, Mapping) else ()
        if key not in there:
            break
        keys, data = (*keys, key), data[key]
    return (*keys, details["loc"][-1]) if details["type"] == "missing" else keys


def _sentence(
    keys: KeyPath, details: Sequence[ErrorDetails], source: Source, allowed: AllowedKeys
) -> str:
    """Return what is wrong with one key."""
    name, kind, given = dotted(keys), details[0]["type"], details[0]["input"]
    if kind == "extra_forbidden":
        known = allowed(keys[:-1], source.data)
        near = get_close_matches(str(keys[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{name}: unknown key; {hint}Known here: {', '.join(known)}"
    if kind == "missing":
        return f"{name} is missing"
    if not name:
        return _expected(details)
    value = "" if isinstance(given, (Mapping, BaseModel)) else f" = {_cut(repr(given))}"
    return f"{name}{value}: {_expected(details)}"


def _expected(details: Iterable[ErrorDetails]) -> str:
    messages = [
        each["msg"].removeprefix("Value error, ").replace(" after validation", "")
        for each in details
    ]
    wanted = [text.removeprefix("Input should be ") for text in messages]
    if wanted == messages:
        return "; ".join(dict.fromkeys(messages))
    plain = (re.split(", unable to parse| or instance of", text)[0] for text in wanted)
    return "expected " + " or ".join(dict.fromkeys(plain))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
