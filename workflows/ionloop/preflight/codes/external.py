"""Labels from outside: where the frames go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ionloop.preflight.codes.base import level_finding, look_at_code
from ionloop.preflight.findings import Finding, ok
from ionloop.runfile.sections.external import ExternalSection


@look_at_code.register(ExternalSection)
def _look_at_folder(section: ExternalSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Say where the frames will be written."""
    sentence = f"frames to label will be written to {section.folder}; the run pauses for them"
    yield ok("label.folder", sentence)
    yield level_finding(section)
