"""CP2K."""

from ionloop.codes.cp2k.settings import Cp2kSettings

__all__ = ["Cp2kSettings"]
