"""MACE, run by the Python of an environment of its own: its e3nn excludes that of SevenNet."""

from __future__ import annotations

from ionloop.codes.mace.settings import MaceSettings

__all__ = ["MaceSettings"]
