"""Mark a folder with the work that it is used for, so that only the same work resumes there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

MARKER = "fingerprint"
"""Name of the file that holds the fingerprint of the inputs of the work in a folder."""


def clear_unless_same_work(folder: Path, patterns: Iterable[str], inputs: Iterable[bytes]) -> None:
    """Remove what other work left in a folder, and mark the folder with the work it is used for.

    Parameters
    ----------
    folder
        Where a program works.
    patterns
        Glob patterns of the files that the program leaves.
    inputs
        All inputs of the program: with the same inputs it is the same work.
    """
    digest = hashlib.sha256()
    for content in inputs:
        digest.update(hashlib.sha256(content).digest())
    marker, fingerprint = folder / MARKER, digest.hexdigest()
    if marker.exists() and marker.read_text() == fingerprint:
        return
    # While files are removed the folder has no marker: after a kill here the work starts anew.
    marker.unlink(missing_ok=True)
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()
    marker.write_text(fingerprint)
