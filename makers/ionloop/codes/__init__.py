"""The programs that ionloop works with, one package each."""

from __future__ import annotations

from ionloop.schemas.moved import redirect

redirect()
