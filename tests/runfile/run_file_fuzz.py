"""Run files with one thing or another wrong in them, drawn from the keys that there are."""

from __future__ import annotations

import copy
import datetime
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel
from ruamel.yaml import YAML

from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import model_in
from ionloop.runfile.sections.registry import CODES, section_type

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*/*.yaml"))

WORDS = st.one_of(
    st.sampled_from(
        ["", " ", "nan", "-inf", "null", "~", "/", "..", "${HOME}", "${NO_SUCH_VARIABLE}", "'", '"']
    ),
    st.sampled_from(["x" * 5000, "a\x00b", "Ω\u202e中", "%s {}", "[red]", "0x10", "1_000", "yes"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 10**30, -(10**400), 2**63, 0.0, -0.0, 1e308, 5e-324]),
    st.sampled_from([float("nan"), float("inf"), float("-inf")]),
    st.integers(-3, 1000),
    st.floats(-10, 1e6),
)
ODD = st.sampled_from([None, True, False, [], {}, datetime.date(2020, 2, 30 - 1), b"\x00\xff"])
LEAVES = st.one_of(WORDS, NUMBERS, ODD)
PLAUSIBLE = st.one_of(
    st.sampled_from([1, 2, 3, 10, 1000, 10**6, 10**12, 1.0, 0.5, 0.05, 1.5, 250.0, 1e5, 1e-9]),
    st.sampled_from(["PBE", "Li", "chgnet", "npt-tri", "continued", "gamma", "farthest", "local"]),
    st.sampled_from([True, False, [300], [1, 1, 2], [0.5, 0.1], [[3, 1], [1, 2]], {"Li": "x"}]),
)
KEYS = st.one_of(WORDS, st.sampled_from(["code", "steps", "model", "Li", "low", "high"]))
VALUES = st.one_of(
    LEAVES,
    st.lists(LEAVES, max_size=3),
    st.lists(st.lists(LEAVES, max_size=3), max_size=2),
    st.dictionaries(KEYS, LEAVES, max_size=3),
)


def bases() -> list[dict[str, Any]]:
    """Return the data of run files that are in order, with absolute paths."""
    given = []
    for path in EXAMPLES:
        data = YAML(typ="safe", pure=True).load(path)
        data["structures"] = [str(path.parent / each) for each in data["structures"]]
        given.append(data)
    return given


def key_paths(
    model: type[BaseModel], data: Any, depth: int = 3
) -> dict[tuple[str | int, ...], Any]:
    """Return the paths of all keys that a section may hold, and what each is by default."""
    paths: dict[tuple[str | int, ...], Any] = {}
    for name, field in model.model_fields.items():
        paths[name,] = None if field.is_required() else field.get_default(call_default_factory=True)
        part = data.get(name) if isinstance(data, dict) else None
        if depth and (section := _section(name, part, field.annotation)):
            place = (name, 0) if str(field.annotation).startswith("list") else (name,)
            for path, default in key_paths(section, part, depth - 1).items():
                paths[*place, *path] = default
    return paths


def _section(name: str, data: Any, annotation: Any) -> type[BaseModel] | None:
    if name in CODES:
        return section_type(name, data)
    try:
        return model_in(annotation)
    except LookupError:
        return None


BASES = bases()
PATHS = [key_paths(RunFile, base) for base in BASES]


def like(default: Any) -> st.SearchStrategy[Any]:  # noqa: PLR0911
    """Draw values of the kind of a default, which may well be in order."""
    match default:
        case bool():
            return st.booleans()
        case int():
            return st.sampled_from([1, 2, 3, 10, 1000, 10**6, 10**12])
        case float():
            return st.sampled_from([0.001, 0.5, 1.0, 2.5, 100.0, 1e6, 1e-12])
        case str():
            return st.sampled_from([default, "PBE", "chgnet", "pytorch", "a b"])
        case tuple() | list() if default and isinstance(default[0], int | float):
            return st.lists(st.sampled_from([1, 2, 8, 0.5, 300]), min_size=1, max_size=4)
        case dict():
            return st.dictionaries(st.sampled_from(["Li", "S", "NSW", "x"]), LEAVES, max_size=2)
        case _:
            return PLAUSIBLE


@st.composite
def run_files(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the data of a run file in which up to three keys hold something drawn."""
    number = draw(st.integers(0, len(BASES) - 1))
    data, paths = copy.deepcopy(BASES[number]), PATHS[number]
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        path = draw(st.sampled_from(list(paths)))
        values = draw(st.sampled_from([like(paths[path])] * 3 + [PLAUSIBLE, VALUES]))
        if draw(st.integers(0, 19)) == 0:
            path = (*path, draw(KEYS))
        put(data, path, draw(values))
    if draw(st.integers(0, 3)) == 0:
        role = draw(st.sampled_from(sorted(CODES)))
        code = draw(st.sampled_from([*CODES[role], "", "no such code"]))
        data[role] = {"code": code}
    return data


def put(data: Any, path: Sequence[str | int], value: Any) -> None:
    """Put a value at a path, where the data have a place for it."""
    *above, last = path
    for key in above:
        if isinstance(data, list) and isinstance(key, int) and key < len(data):
            data = data[key]
        elif isinstance(data, dict) and isinstance(key, str):
            data = data.setdefault(key, {})
        else:
            return
    if isinstance(data, dict):
        data[last] = value


def as_yaml(data: Mapping[str, Any]) -> str:
    """Return data as YAML."""
    stream = io.StringIO()
    YAML().dump(data, stream)
    return stream.getvalue()
