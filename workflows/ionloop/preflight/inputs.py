"""Read structures and data as far as they can be read."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from textwrap import shorten

from ionloop.formats.errors import FrameFileError
from ionloop.formats.reading import read_frames
from ionloop.preflight.findings import Finding, error, ok, warning
from ionloop.runfile.model import RunFile, read
from ionloop.schemas.frames import Frames, concatenate, symbols_of


@dataclass(frozen=True)
class Inputs:
    """What could be read of structures and data, and what could not.

    Parameters
    ----------
    structures
        The start structures, one `Frames` per composition.
    files
        The frames of each entry of `initial.data`.
    findings
        What was found while reading them.
    """

    structures: list[Frames] = field(default_factory=list)
    files: list[list[Frames]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def data(self) -> list[Frames]:
        """The frames of all of `initial.data`, which `files` keeps apart."""
        return [part for parts in self.files for part in parts]

    @property
    def elements(self) -> list[str]:
        """Chemical symbols in the order of appearance."""
        return symbols_of([*self.structures, *self.data])


def read_inputs(run_file: RunFile) -> Inputs:
    """Read structures and data as far as they can be read."""
    findings: list[Finding] = []
    structures = [
        part
        for number, path in enumerate(run_file.structures)
        for part in _try(f"structures[{number}]", path, partial(read_frames, path), findings)
    ]
    files = [
        _try(f"initial.data[{number}]", Path(each.path), partial(read, each), findings)
        for number, each in enumerate(run_file.initial.data)
    ]
    return Inputs(concatenate(part.unlabelled() for part in structures), files, findings)


def _try(
    key: str, path: Path, reader: Callable[[], list[Frames]], findings: list[Finding]
) -> list[Frames]:
    try:
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            frames = reader()
    except FrameFileError as problem:
        findings.append(error(key, str(problem)))
        return []
    said = dict.fromkeys(" ".join(str(each.message).split()) for each in remarks)
    findings += [warning(key, f"{path}: {shorten(sentence, 300)}") for sentence in said]
    parts = ", ".join(f"{len(part)} of {part.formula}" for part in frames)
    findings.append(ok(key, f"{path} holds frames: {parts}"))
    return frames
