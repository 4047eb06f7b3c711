"""Enter labelled data from files."""

from __future__ import annotations

from pathlib import Path

from ionloop.codes.common.acceptance import AcceptanceLimits, Terms
from ionloop.formats.errors import FrameFileError
from ionloop.formats.reading import read_frames, unconverged
from ionloop.jobs.decorators import stored_job
from ionloop.jobs.label.accounts import account
from ionloop.jobs.label.imports import enter, judge
from ionloop.jobs.label.ledger import current_ledger
from ionloop.jobs.provenance import stamp
from ionloop.schemas.dataset import in_stretches
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels, LevelOfTheory
from ionloop.selection.physical import PhysicalLimits
from ionloop.selection.plausible import doubts


@stored_job(Labels, expose_store=True)
def ingest(
    paths: list[str],
    fmt: str | None,
    type_map: list[str] | None,
    level: LevelOfTheory,
    limits: AcceptanceLimits | None = None,
    physical: PhysicalLimits | None = None,
    check_units: bool = True,
) -> Labels:
    """Read labelled frames, judge them, and enter them into the ledger as labels of a level.

    Parameters
    ----------
    paths
        Files or folders.
    fmt
        Name that dpdata or ASE has for the format; by default it follows from each path.
    type_map
        Chemical symbols of the types, for formats that name types only.
    level
        Level of theory of the labels.
    limits, physical
        Limits of acceptance and of distances; by default those of their classes.
    check_units
        Whether to refuse files whose numbers look like those of other units.

    Raises
    ------
    FrameFileError
        If a file cannot be read, holds no labels, or its numbers look like those of other units.
    InputError
        If none of its frames can be used.
    """
    terms = Terms(level=level, limits=limits or AcceptanceLimits())
    parts: list[Frames] = []
    notes = []
    for path in map(Path, paths):
        parts += [in_stretches(part) for part in read_labelled(path, fmt, type_map, check_units)]
        if n := unconverged(path, fmt):
            notes.append(f"{path}: {n} frames whose SCF did not converge are left out")
    found, told = enter(current_ledger(), judge(parts, terms, physical), terms)
    notes += [f"{', '.join(paths)}: {note}" for note in told]
    labels = account(level, list(found), found, calculated=set())
    return labels.model_copy(update={**stamp(level), "notes": notes})


def read_labelled(
    path: Path, fmt: str | None, type_map: list[str] | None, check_units: bool = True
) -> list[Frames]:
    """Read labelled frames from a file or a folder.

    Parameters
    ----------
    path, fmt, type_map, check_units
        As for `ingest`.

    Raises
    ------
    FrameFileError
        If there are frames without energies and forces, or, unless `check_units` is off, if the
        numbers look like those of other units than Å, eV and eV/Å.
    """
    frames = read_frames(path, fmt, type_map, format_key="format, or --format")
    if not all(part.is_labelled for part in frames):
        raise FrameFileError(
            f"{path} holds frames without energies and forces; they cannot be labels"
        )
    if check_units and (found := doubts(frames)):
        raise FrameFileError(f"{path}: {found[0]}. {CONVERT}")
    return frames


CONVERT = (
    "Convert the data to Å, eV and eV/Å; if the numbers are right, say so (check_units: false in "
    "initial.data, --no-check-units for ionloop label)"
)
