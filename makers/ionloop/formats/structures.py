"""Start structures from files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ionloop.formats.reading import read_frames
from ionloop.schemas.frames import Frames, concatenate


def load_structures(paths: Iterable[Path]) -> list[Frames]:
    """Read start structures, without labels, one `Frames` per composition.

    Raises
    ------
    FrameFileError
        If a file cannot be read; the message names the file, what is wrong and the cure.
    """
    parts = [frames.unlabelled() for path in paths for frames in read_frames(path)]
    return concatenate(parts)
