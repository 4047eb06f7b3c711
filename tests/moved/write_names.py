"""List what a store of version 0.1 can name: classes and job functions, by module.

``names_of_0_1.json`` was written so with version 0.1 (commit a1bbe0b) in an environment of its
own, from the folder of its sources::

    python write_names.py > names_of_0_1.json
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Any

from pydantic import BaseModel

ROOTS = ("schemas", "makers", "workflows")
NOT_STORED = re.compile(
    r"__main__|gpaw_script|ionloop\.(cli|config|monitor)\b|ionloop\.runners\.(?!fireworks_task|resources)"
)
"""Modules of which no job takes or gives anything: a run file is stored as plain words."""

PARTS = {"Kind", "PotcarIdentity"}  # stored inside the settings of their code, as plain values


def modules() -> Iterator[str]:
    """Yield the names of all modules."""
    for root in ROOTS:
        for path in sorted(Path(root, "ionloop").rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            if not NOT_STORED.search(name):
                yield name.removesuffix(".__init__")


def kind_of(value: Any) -> str | None:
    """Return in what way a store can name something, None if it cannot."""
    if isinstance(value, FunctionType):
        return "job" if hasattr(value, "original") else None
    if not isinstance(value, type) or issubclass(value, BaseException):
        return None
    return "class" if issubclass(value, Enum | BaseModel) or hasattr(value, "as_dict") else None


def main() -> None:
    """Print every module's names."""
    found: dict[str, dict[str, str]] = {}
    for name in modules():
        module = importlib.import_module(name)
        own = {n: v for n, v in vars(module).items() if getattr(v, "__module__", "") == name}
        kinds = {
            n: kind
            for n, v in own.items()
            if n[0] != "_" and n not in PARTS and (kind := kind_of(v))
        }
        if kinds:
            found[name] = dict(sorted(kinds.items()))
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
