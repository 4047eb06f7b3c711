"""Labels that are calculated elsewhere, and come back as files."""

from ionloop.codes.external.settings import ExternalSettings

__all__ = ["ExternalSettings"]
