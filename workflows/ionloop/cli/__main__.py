"""``python -m ionloop.cli``."""

from __future__ import annotations

from ionloop.cli.main import app

app()
