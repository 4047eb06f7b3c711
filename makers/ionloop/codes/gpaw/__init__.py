"""GPAW in plane waves."""

from ionloop.codes.gpaw.settings import GpawSettings

__all__ = ["GpawSettings"]
