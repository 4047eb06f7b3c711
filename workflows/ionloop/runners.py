"""The engines of version 0.1, for stored jobs that name them: see `ionloop.schemas.moved`."""

from __future__ import annotations

from ionloop.schemas.moved import redirect

redirect()
__path__: list[str] = []  # modules below this one are found by the redirect
