"""What the pages of results share: files with one JSON object per line, tables, figures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file, without lines that a kill cut short; nothing if it is absent."""
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def add_line(path: Path, content: dict[str, Any]) -> None:
    """Add a line, and see it on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a") as stream:
        # A line that a kill cut short is left alone and not read.
        stream.write("\n" * torn + json.dumps(content) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown with columns of one width; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def mean_and_spread(values: Sequence[float], digits: int) -> str:
    """Return mean ± standard deviation; of one value, the number alone."""
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


@contextmanager
def two_panels(path: Path, height: float, **options: Any) -> Iterator[Any]:
    """Yield two axes side by side to draw on, and write the figure afterwards.

    Parameters
    ----------
    path
        File of the figure.
    height
        Its height in inches.
    options
        For ``matplotlib.pyplot.subplots``.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, height), layout="constrained", **options)
    yield axes
    figure.savefig(path, dpi=150)
    plt.close(figure)
