"""Heavy data as one compact, storable object.

Arrays in a jobflow output come back as nested lists, many times larger than they were, and
bytes do not survive JSON. A `Packed` object therefore serialises to a small visible header and
one ``packed`` field that holds base64 text, at 4/3 of the arrays' size. Jobs declared with
``data="packed"`` send that field to the additional store and leave the header, which a query
can see, in the document.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Array = NDArray[Any]


class NotLoadedError(RuntimeError):
    """The heavy part of an object was left in the store and is needed now."""


def encode_array(array: Array) -> dict[str, Any]:
    """Encode an array of numbers as a dictionary of type, shape and base64 text."""
    contiguous = np.ascontiguousarray(array)
    return {
        "dtype": contiguous.dtype.str,
        "shape": list(array.shape),
        "base64": base64.b64encode(contiguous.data).decode("ascii"),
    }


def decode_array(encoded: Mapping[str, Any]) -> Array:
    """Decode what `encode_array` wrote; the array owns its memory and can be written to."""
    raw = base64.b64decode(encoded["base64"])
    return np.frombuffer(raw, dtype=encoded["dtype"]).reshape(encoded["shape"]).copy()


class Packed:
    """Base class of objects that are stored as a header and a ``packed`` blob."""

    header_fields: ClassVar[tuple[str, ...]] = ()

    def pack(self) -> dict[str, Any]:
        """Return the heavy content as a dictionary of JSON values."""
        raise NotImplementedError

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Self:
        """Build the object from what `pack` returned."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """Serialise (monty's protocol, which jobflow uses)."""
        header = {name: getattr(self, name) for name in self.header_fields}
        return {
            "@module": type(self).__module__,
            "@class": type(self).__name__,
            **header,
            "packed": self.pack(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Deserialise.

        Raises
        ------
        NotLoadedError
            If the packed part is still a reference into the additional store.
        """
        packed = data["packed"]
        if "blob_uuid" in packed:
            raise NotLoadedError(
                f"{cls.__name__} was read without its data; query the store with load=True"
            )
        return cls.unpack(packed)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Let documents hold the object, its serialised form, or a jobflow reference to it."""

        def serialise(value: Any) -> Any:
            return value.as_dict() if hasattr(value, "as_dict") else value

        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(serialise)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        """Describe the stored form."""
        return {"type": "object", "title": cls.__name__, "required": ["packed"]}

    @classmethod
    def _validate(cls, value: Any) -> Any:
        if isinstance(value, cls) or _is_reference(value):
            return value
        if isinstance(value, Mapping) and "packed" in value:
            return value if "blob_uuid" in value["packed"] else cls.from_dict(value)
        raise ValueError(f"expected {cls.__name__}, got {type(value).__name__}")


def _is_reference(value: Any) -> bool:
    """Tell a jobflow OutputReference, live or serialised, without importing jobflow."""
    if isinstance(value, Mapping):
        return value.get("@class") == "OutputReference"
    return type(value).__name__ == "OutputReference"
