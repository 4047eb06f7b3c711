"""What every stored document has: a schema version, where it belongs, where it comes from."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class Model(BaseModel):
    """Frozen pydantic model that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Provenance(Model):
    """Where a document comes from."""

    job: str | None = Field(None, description="uuid of the job that wrote it")
    host: str | None = Field(None, description="host that ran the job")
    versions: dict[str, str] = Field(default_factory=dict, description="versions of the codes")
    input_hash: str | None = Field(None, description="sha256 of the settings it was made with")


class Document(Model):
    """Base class of the stored documents."""

    schema_version: int = SCHEMA_VERSION
    run: str | None = Field(None, description="id of the run")
    iteration: int | None = Field(None, description="turn of the loop, counted from 0")
    provenance: Provenance = Provenance()

    @classmethod
    def from_stored(cls, stored: dict[str, Any]) -> Self:
        """Build the document from what a store gives back, heavy parts loaded or not."""
        bookkeeping = {"_id", "last_updated", *cls.model_computed_fields}
        fields = {k: v for k, v in stored.items() if k[0] != "@" and k not in bookkeeping}
        return cls(**fields)
