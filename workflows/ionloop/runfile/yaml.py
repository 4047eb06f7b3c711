"""The YAML of a run file: read it, and refuse what no run file can mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from ionloop.runfile.errors import KeyPath, RunFileError, Source, dotted

LARGEST_NUMBER = 2**63 - 1
"""The largest integer that a store keeps, and larger than any quantity of a run."""


def unusable_numbers(data: Any, keys: KeyPath = ()) -> Iterator[tuple[KeyPath, str, float]]:
    """Yield numbers that nothing can be calculated with: key path, what is expected, number.

    Parameters
    ----------
    data
        Plain values: mappings, sequences, numbers, words.
    keys
        Key path of `data` itself.
    """
    if isinstance(data, Mapping | list | tuple):
        for key, value in data.items() if isinstance(data, Mapping) else enumerate(data):
            yield from unusable_numbers(value, (*keys, key))
    elif isinstance(data, float) and not isfinite(data):
        yield keys, "expected a finite number", data
    elif isinstance(data, int) and abs(data) > LARGEST_NUMBER:
        yield keys, "expected a smaller number", data


def read_yaml(path: Path) -> Source:
    """Read a YAML file of keys and values.

    Raises
    ------
    RunFileError
        If it is not there, cannot be read, is not YAML, holds no keys, or holds itself.
    """
    try:
        text = path.read_text()
        data = YAML(typ="safe", pure=True).load(text)
        marks = YAML().load(text)
    except FileNotFoundError:
        raise RunFileError(f"{path} does not exist; `ionloop init` writes an example") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path} cannot be read: {error}") from None
    except MarkedYAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RunFileError(f"{path}{place}: this is not YAML: {error.problem}") from None
    if not isinstance(data, dict):
        raise RunFileError(f"{path} holds no keys; `ionloop init` writes an example")
    source = Source(path, data, marks)
    if (loop := _circular(data)) is not None:
        line = f", line {source.line(loop)}" if source.line(loop) else ""
        raise RunFileError(
            f"{path}{line}: {dotted(loop)} holds itself: an anchor (&) with an alias (*) to it "
            "inside; write the values out"
        )
    return source


def _circular(data: Any, keys: KeyPath = (), above: tuple[int, ...] = ()) -> KeyPath | None:
    """Return the key path of the first value that holds itself, which YAML's anchors allow."""
    if not isinstance(data, dict | list):
        return None
    if id(data) in above:
        return keys
    parts = data.items() if isinstance(data, dict) else enumerate(data)
    found = (_circular(value, (*keys, key), (*above, id(data))) for key, value in parts)
    return next((loop for loop in found if loop is not None), None)
