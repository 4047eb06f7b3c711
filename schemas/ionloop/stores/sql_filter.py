"""What SQLite can answer of a MongoDB filter.

Indexed fields are kept in columns beside the documents. A filter on them becomes an SQL condition
that every matching document fulfils; what the columns cannot decide is left over as an ordinary
filter, to be applied to the few documents that remain.

A column holds numbers and strings as they are, ``NULL`` for a missing or null field, and tagged
blobs for booleans and times, so that SQLite sorts a column as MongoDB sorts values: null, numbers,
strings, (arrays and objects,) booleans, times.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

ColumnValue: TypeAlias = int | float | str | bytes | None


LOOK_INSIDE = b""
"""Stands in a column for an array, an object or bytes: only the document itself can tell."""


_MAX_VALUES = 30_000  # SQLite binds at most 32,766 values to one statement

_JOINED = {"$and": " AND ", "$or": " OR "}
_COMPARISONS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


@dataclass
class SqlFilter:
    """An SQL condition and the part of the filter that it leaves open.

    Attributes
    ----------
    conditions
        SQL expressions, all of which hold for every matching document.
    values
        The values bound to their question marks, in order.
    columns
        The fields they use. A row holding `LOOK_INSIDE` in one of them is still undecided.
    rest
        The filter that decides the remaining rows; empty when the conditions already do.
    """

    conditions: list[str] = field(default_factory=list)
    values: list[ColumnValue] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)
    rest: dict[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """All conditions joined into one SQL expression."""
        return " AND ".join(self.conditions) or "1"


def quoted(name: str) -> str:
    """Return an SQL identifier for any name."""
    return '"' + name.replace('"', '""') + '"'


def column(name: str) -> str:
    """Return the quoted column that holds a (dotted) field."""
    return quoted(f"field:{name}")


def field_value(document: Mapping[str, Any], name: str) -> Any:
    """Return the value at a dotted path, None where missing, a list where the path meets one.

    Parameters
    ----------
    document
        A document.
    name
        The path.
    """
    value: Any = document
    for part in name.split("."):
        if isinstance(value, list | tuple):
            return value
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def column_value(value: Any) -> ColumnValue:
    """Return what a column holds for a document's value; see the module's text.

    Parameters
    ----------
    value
        Any value BSON can hold. Times are kept in ms, as BSON does.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return b"\x01" + bytes([value])
    if isinstance(value, datetime):
        # Since year 1, not 1970, so that earlier times sort right.
        since = (value.astimezone(UTC) if value.tzinfo else value).replace(tzinfo=None)
        milliseconds = (since - datetime.min) // timedelta(milliseconds=1)
        return b"\x02" + milliseconds.to_bytes(8, "big")
    if isinstance(value, int | float) and not math.isnan(value):
        return value
    return LOOK_INSIDE


def sql_filter(criteria: Mapping[str, Any], columns: Collection[str]) -> SqlFilter:
    """Turn a MongoDB filter into SQL as far as the columns reach.

    Parameters
    ----------
    criteria
        A MongoDB filter. ``$and``, ``$or``, equality, ``$in`` and comparisons with numbers,
        strings and times are turned into SQL.
    columns
        The fields that have a column.
    """
    found = SqlFilter()
    for name, wanted in criteria.items():
        if name in _JOINED:
            _add_parts(found, name, wanted, [sql_filter(part, columns) for part in wanted])
        elif name in columns:
            _add_field(found, name, wanted)
        else:
            found.rest[name] = wanted
    return found


def _add_parts(found: SqlFilter, name: str, wanted: Any, parts: Sequence[SqlFilter]) -> None:
    rests = [part.rest for part in parts if part.rest]
    if not parts or (rests and name == "$or"):
        found.rest[name] = wanted
        return
    found.conditions.append("(" + _JOINED[name].join(f"({part.where})" for part in parts) + ")")
    for part in parts:
        found.values += part.values
        found.columns |= part.columns
    if rests:
        found.rest[name] = rests


def _add_field(found: SqlFilter, name: str, wanted: Any) -> None:
    is_test = isinstance(wanted, Mapping) and any(key.startswith("$") for key in wanted)
    tests = wanted if is_test else {"$eq": wanted}
    left = {}
    for operator, value in tests.items():
        if (test := _sql_test(column(name), operator, value)) is None:
            left[operator] = value
            continue
        found.conditions.append(test[0])
        found.values += test[1]
        found.columns.add(name)
    if left:
        found.rest[name] = left if tests is wanted else wanted


def _sql_test(name: str, operator: str, value: Any) -> tuple[str, list[ColumnValue]] | None:
    if operator in _COMPARISONS:
        return _sql_comparison(name, _COMPARISONS[operator], value)
    if operator == "$eq" and value is None:
        return f"({name} IS NULL OR {name} = x'')", []
    values = {"$eq": [value], "$in": value}.get(operator, [])
    bound = [column_value(item) for item in values]
    if not 0 < len(bound) <= _MAX_VALUES or None in bound or LOOK_INSIDE in bound:
        return None
    return f"{name} IN ({'?, ' * len(bound)}x'')", bound


def _sql_comparison(name: str, sign: str, value: Any) -> tuple[str, list[ColumnValue]] | None:
    """MongoDB compares only values of one type; the second bound keeps the others out."""
    if isinstance(value, bool) or column_value(value) in (None, LOOK_INSIDE):
        return None
    low, high = {str: ("''", "x''"), datetime: ("x'02'", "x'03'")}.get(
        type(value), ("-9e999", "''")
    )
    bound = f"{name} < {high}" if sign.startswith(">") else f"{name} >= {low}"
    return f"({name} {sign} ? AND {bound} OR {name} = x'')", [column_value(value)]
