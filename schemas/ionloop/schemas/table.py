"""Table: named columns of equal length, stored compactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from ionloop.schemas.packed import Array, Packed, decode_array, encode_array


@dataclass(frozen=True, eq=False)
class Table(Packed):
    """Columns of numbers or words, one row per thing.

    Parameters
    ----------
    columns
        Arrays of equal length (rows,), numbers or strings. Words are stored as codes into the
        list of the different ones, so that a verdict costs one byte a row.

    Raises
    ------
    ValueError
        If the columns differ in length.
    """

    columns: dict[str, Array]

    header_fields: ClassVar[tuple[str, ...]] = ("n_rows", "names")

    def __post_init__(self) -> None:
        columns = {name: np.asarray(column) for name, column in self.columns.items()}
        if len({len(column) for column in columns.values()}) > 1:
            lengths = {name: len(column) for name, column in columns.items()}
            raise ValueError(f"the columns of a table have one length, got {lengths}")
        object.__setattr__(self, "columns", columns)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> Array:
        """Return one column, (rows,)."""
        return self.columns[name]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self.columns)

    def where(self, mask: Array) -> Table:
        """Return the rows that a boolean mask or an array of indices selects."""
        return Table({name: column[mask] for name, column in self.columns.items()})

    def with_columns(self, **columns: Array) -> Table:
        """Return the table with columns added or replaced."""
        return Table({**self.columns, **columns})

    def rows(self) -> Iterable[dict[str, Any]]:
        """Yield every row as a dictionary of plain values."""
        lists = [column.tolist() for column in self.columns.values()]
        for values in zip(*lists, strict=True):
            yield dict(zip(self.columns, values, strict=True))

    def pack(self) -> dict[str, Any]:
        """Return the columns as JSON values."""
        return {name: _encoded(column) for name, column in self.columns.items()}

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Self:
        """Build a table from what `pack` returned."""
        return cls({name: _decoded(column) for name, column in packed.items()})


def join_tables(tables: Iterable[Table]) -> Table:
    """Stack tables, in order, with the columns that all of them have.

    Tables that an earlier version stored may lack a column.
    """
    parts = list(tables)
    if not parts:
        return Table({})
    shared = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    return Table({name: np.concatenate([part[name] for part in parts]) for name in shared})


def _encoded(column: Array) -> dict[str, Any]:
    if column.dtype.kind not in "US":
        return encode_array(column)
    words, codes = np.unique(column, return_inverse=True)
    code_type = np.uint8 if len(words) <= 256 else np.uint32
    return {"words": words.tolist(), **encode_array(codes.astype(code_type))}


def _decoded(encoded: Mapping[str, Any]) -> Array:
    values = decode_array(encoded)
    if "words" not in encoded:
        return values
    words = np.asarray(encoded["words"], dtype=str)
    return words[values] if len(words) else words
