"""Files of results: one JSON object per line, added when it is known, never lost or torn."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
