"""What every stored document has: a schema version, its run and turn, and where it comes from."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, PlainSerializer, SerializationInfo, model_validator

from ionloop.schemas.migration import SCHEMA_VERSION, migrated


def _with_class(value: Any, info: SerializationInfo) -> Any:
    if not isinstance(value, BaseModel):
        return value
    kind = type(value)
    content = value.model_dump(mode=info.mode)
    return {"@module": kind.__module__, "@class": kind.__name__, **content}


# jobflow-remote hands a job the documents themselves, as files: each must say what it is.
ByReference = Annotated[Any, PlainSerializer(_with_class)]
"""A document that is kept by reference: a jobflow reference, or the document it refers to."""


class Model(
    BaseModel, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
):
    """Frozen pydantic model that refuses unknown fields, NaN and infinity.

    What a field means stands below it.
    """


class Provenance(Model):
    """Where a document comes from."""

    job: str | None = None
    """uuid of the job that wrote it"""
    host: str | None = None
    """host that ran the job"""
    versions: dict[str, str] = Field({})
    """versions of the codes"""
    input_hash: str | None = None
    """sha256 of the settings it was made with"""


class Document(Model):
    """Base class of the stored documents."""

    schema_version: int = SCHEMA_VERSION
    run: str | None = None
    """id of the run"""
    iteration: int | None = None
    """turn of the loop, counted from 0"""
    provenance: Provenance = Provenance()

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, given: Any) -> Any:
        return migrated(cls.__name__, given) if isinstance(given, dict) else given

    @classmethod
    def from_stored(cls, stored: dict[str, Any]) -> Self:
        """Build the document from what a store gives back, heavy parts loaded or not.

        Raises
        ------
        NewerVersionError
            If a later version of ionloop wrote it.
        """
        bookkeeping = {"_id", "last_updated", "blob_uuid", *cls.model_computed_fields}
        fields = {k: v for k, v in stored.items() if k[0] != "@" and k not in bookkeeping}
        return cls(**fields)
