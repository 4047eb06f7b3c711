"""The part of a document that a MongoDB projection asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from ionloop.stores.errors import StoreError

Document: TypeAlias = dict[str, Any]

Properties: TypeAlias = dict[str, Any] | list[str] | None


def projected(document: Document, properties: Properties) -> Document:
    """Return the part of a document that a MongoDB projection of ones or zeros asks for.

    Parameters
    ----------
    document
        A stored document.
    properties
        Dotted paths to keep, or ones (keep) or zeros (leave out) by path; everything if empty.

    Raises
    ------
    StoreError
        If the projection holds anything but ones and zeros.
    """
    if not properties:
        return document
    wanted = properties if isinstance(properties, dict) else dict.fromkeys(properties, 1)
    if not all(value in (0, 1) for value in wanted.values()):
        raise StoreError(f"Projection {wanted} is not supported; use ones or zeros.")
    names = set(wanted) - {"_id"}
    keep = any(wanted[name] for name in names or wanted)
    if bool(wanted.get("_id", keep)) == keep:
        names.add("_id")
    part: Document = (_kept if keep else _dropped)(document, _tree(names))
    return part


def _tree(names: Iterable[str]) -> Document:
    """Return dotted paths as nested dictionaries; an empty one stands for the whole field."""
    tree: Document = {}
    for name in sorted(names):
        branch = tree
        for part in name.split("."):
            branch = branch.setdefault(part, {})
    return tree


def _kept(value: Any, tree: Document) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_kept(item, tree) for item in value if isinstance(item, dict | list)]
    return {
        name: _kept(part, tree[name])
        for name, part in value.items()
        if name in tree and (not tree[name] or isinstance(part, dict | list))
    }


def _dropped(value: Any, tree: Document) -> Any:
    if isinstance(value, list):
        return [_dropped(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _dropped(part, tree[name]) if name in tree else part
        for name, part in value.items()
        if tree.get(name) != {}
    }
