"""The YAML of a run file, with sentences for what cannot be meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from ionloop.runfile.errors import KeyPath, RunFileError, Source, dotted

LARGEST_NUMBER = 2**63 - 1
"""The largest integer that a store keeps, and larger than any quantity of a run."""


def refused(place: KeyPath, message: str, value: Any) -> ValidationError:
    """Return the error of a value that is refused by itself or beside others."""
    return ValidationError.from_exception_data("run file", [_refusal(place, message, value)])


def _refusal(place: KeyPath, message: str, value: Any) -> InitErrorDetails:
    problem = PydanticCustomError("refused", "{message}", {"message": message})
    return InitErrorDetails(type=problem, loc=place, input=value)


def unusable_numbers(data: Any, keys: KeyPath = ()) -> Iterator[tuple[KeyPath, float]]:
    """Yield numbers that nothing can be calculated with, each with its key path.

    Parameters
    ----------
    data
        Plain values: mappings, sequences, numbers, words.
    keys
        Key path of `data` itself.
    """
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from unusable_numbers(value, (*keys, key))
    elif isinstance(data, list | tuple):
        for index, value in enumerate(data):
            yield from unusable_numbers(value, (*keys, index))
    elif (isinstance(data, float) and not isfinite(data)) or (
        isinstance(data, int) and abs(data) > LARGEST_NUMBER
    ):
        yield keys, data


def refused_number(keys: KeyPath, value: float) -> InitErrorDetails:
    kind = "smaller" if isinstance(value, int) else "finite"
    return _refusal(keys, f"expected a {kind} number", value)


def read_yaml(path: Path) -> Source:
    try:
        text = path.read_text()
        data = YAML(typ="safe", pure=True).load(text)
        marks = YAML().load(text)
    except FileNotFoundError:
        raise RunFileError(f"{path} does not exist; `ionloop init` writes an example") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path} cannot be read: {error}") from None
    except MarkedYAMLError as error:
        raise RunFileError(_yaml_sentence(path, error)) from None
    if not isinstance(data, dict):
        raise RunFileError(f"{path} holds no keys; `ionloop init` writes an example")
    source = Source(path, data, marks)
    if (loop := circular(data)) is not None:
        line = f", line {source.line(loop)}" if source.line(loop) else ""
        raise RunFileError(
            f"{path}{line}: {dotted(loop)} holds itself: an anchor (&) with an alias (*) to it "
            "inside; write the values out"
        )
    return source


def circular(data: Any, keys: KeyPath = (), above: tuple[int, ...] = ()) -> KeyPath | None:
    """Return the key path of the first value that holds itself, which YAML's anchors allow."""
    if not isinstance(data, dict | list):
        return None
    if id(data) in above:
        return keys
    parts = data.items() if isinstance(data, dict) else enumerate(data)
    found = (circular(value, (*keys, key), (*above, id(data))) for key, value in parts)
    return next((loop for loop in found if loop is not None), None)


def _yaml_sentence(path: Path, error: MarkedYAMLError) -> str:
    place = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
    return f"{path}{place}: this is not YAML: {error.problem}"
