"""What an interrupted program left in its folder: the same work goes on from it, other work not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

NOTE = "fingerprint"


def clear_unless_same(folder: Path, patterns: Iterable[str], inputs: Iterable[bytes]) -> None:
    """Remove what other work left in a folder, and note which work the folder is of.

    Parameters
    ----------
    folder
        Where a program works.
    patterns
        Glob patterns of the files that it leaves.
    inputs
        Everything that it reads: with the same inputs it is the same work.
    """
    note, fingerprint = folder / NOTE, _fingerprint(inputs)
    if note.exists() and note.read_text() == fingerprint:
        return
    # While files are removed the folder is nobody's: whoever is killed here begins anew.
    note.unlink(missing_ok=True)
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()
    note.write_text(fingerprint)


def _fingerprint(inputs: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for content in inputs:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
