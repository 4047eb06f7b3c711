"""What fills a store: documents and blobs, by kind and by run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import bson
from pydantic import Field

from ionloop.schemas.document import Model
from ionloop.stores.connect import LoopStore, blob_sizes, collection
from ionloop.stores.sqlite import SqliteStore

UNUSED = "unused"
"""Kind of the blobs that no document refers to."""

_Place: TypeAlias = tuple[str, str, str]  # collection, kind, run


class Share(Model):
    """What one run has of one kind."""

    collection: str
    """collection; that of the blobs is data"""
    kind: str
    """class of a document; of a blob what it holds"""
    run: str
    """id of the run; empty where there is none"""
    n: int
    """documents or blobs"""
    size: int = Field(json_schema_extra={"unit": "B"})
    """bytes of all of them"""


class Contents(Model):
    """What fills a store."""

    shares: list[Share]
    file_size: int | None = None
    """of an embedded store, B; its log included"""
    free: int | None = None
    """free pages of an embedded store, B"""


def contents(store: LoopStore) -> Contents:
    """Measure what fills a store; nothing is changed.

    Parameters
    ----------
    store
        An open store.
    """
    sizes: dict[_Place, list[int]] = defaultdict(list)
    owners: dict[str, _Place] = {}
    for name in ("outputs", "labels", "claims", "jobs", "runs"):
        for document in collection(store, name).query():
            kind = _class(document.get("output")) if name == "outputs" else name
            run = _run(document)
            sizes[name, kind, run].append(len(bson.encode(document)))
            owners |= {uuid: ("data", held, run) for uuid, held in blobs_of(document)}
    for uuid, size in blob_sizes(store).items():
        sizes[owners.get(uuid, ("data", UNUSED, ""))].append(size)
    shares = [
        Share(collection=name, kind=kind, run=run, n=len(found), size=sum(found))
        for (name, kind, run), found in sizes.items()
    ]
    shares.sort(key=lambda share: share.size, reverse=True)
    docs = store.docs_store
    if not isinstance(docs, SqliteStore):
        return Contents(shares=shares)
    return Contents(shares=shares, file_size=docs.file.size, free=docs.file.free_space)


def blobs_of(value: Any, kind: str = "other", field: str = "") -> Iterator[tuple[str, str]]:
    """Yield the blobs that a stored document refers to: uuid, and what it holds.

    Parameters
    ----------
    value
        The document, or a part of it.
    kind
        Class of the object that the part belongs to.
    field
        Field that holds this object.
    """
    if isinstance(value, Mapping):
        if "blob_uuid" in value:
            # Models and checkpoints are files, told apart by their field.
            what = {"StoredFile": f"{field}s", "Table": "tables"}.get(kind, kind.lower())
            yield value["blob_uuid"], what
            return
        for name, part in value.items():
            holder = field if name == "packed" else name
            yield from blobs_of(part, value.get("@class", kind), holder)
    elif isinstance(value, list):
        for part in value:
            yield from blobs_of(part, kind, field)


def _class(output: Any) -> str:
    """Name the class of a job's output; several of one class count by the first."""
    first = output[0] if isinstance(output, list) and output else output
    return first.get("@class", "other") if isinstance(first, Mapping) else "other"


def _run(document: Mapping[str, Any]) -> str:
    return document.get("run") or (document.get("metadata") or {}).get("run") or ""
