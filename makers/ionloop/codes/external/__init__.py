"""Labels that are calculated elsewhere, and come back as files."""

from __future__ import annotations

from ionloop.codes.external.requests import find_request, write_requests
from ionloop.codes.external.settings import ExternalSettings, level_of_theory

__all__ = ["ExternalSettings", "find_request", "level_of_theory", "write_requests"]
