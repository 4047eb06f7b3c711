"""The Makers and jobs of version 0.1, for stored jobs: see `ionloop.schemas.moved`."""

from __future__ import annotations

from ionloop.schemas.moved import redirect

redirect()
__path__: list[str] = []  # modules below this one are found by the redirect
