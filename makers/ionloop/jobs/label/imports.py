"""Labels that were calculated elsewhere: judged like our own, never written over another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ionloop.codes.common.acceptance import AcceptanceLimits, Calculated, Terms, accept
from ionloop.formats.errors import FrameFileError
from ionloop.formats.reading import read_frames, unconverged
from ionloop.jobs.documents import stamp, stored_job
from ionloop.jobs.label.accounts import account
from ionloop.jobs.label.ledger import Ledger, current_ledger
from ionloop.jobs.label.twins import adopt_twins
from ionloop.schemas.dataset import in_stretches
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, Labels, LabelStatus, LevelOfTheory, RejectReason
from ionloop.selection.physical import PhysicalLimits, inspect, nearest_atoms
from ionloop.selection.plausible import crowded, doubts, impossible_energies

EQUAL_ENERGIES = 1e-4
"""Difference in eV/atom up to which two labels of one frame count as the same, as files round."""


EQUAL_FORCES = 1e-3
"""Difference in eV/Å up to which two labels of one frame count as the same."""


CONVERT = (
    "Convert the data to Å, eV and eV/Å; if the numbers are right, say so (check_units: false in "
    "initial.data, --no-check-units for ionloop label)"
)


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


def judge(
    parts: Sequence[Frames], terms: Terms, physical: PhysicalLimits | None = None
) -> list[LabelDoc]:
    """Judge labels that were calculated elsewhere.

    Besides the limits that hold for our own labels, distances and energies are checked too,
    because these frames did not pass our selection.

    Parameters
    ----------
    parts
        Labelled frames with finite numbers.
    terms
        Level of theory and limits of acceptance.
    physical
        Limits of distances; by default those of `PhysicalLimits`.

    Returns
    -------
    list of LabelDoc
        One per frame, accepted, or rejected with a sentence that names frame and atom.
    """
    return [label for part in parts for label in _judge_part(part, terms, physical)]


def _judge_part(part: Frames, terms: Terms, physical: PhysicalLimits | None) -> list[LabelDoc]:
    faults = np.where(crowded(part), "atoms beyond any density", "")
    faults[faults == ""] = inspect(part[faults == ""], physical).faults
    labels = []
    for index, frame in enumerate(part):
        label = accept(frame.unlabelled(), calculated(frame), terms.level, terms.limits)
        fault = energy_fault(frame)
        if faults[index] and not fault:
            fault = ": ".join(filter(None, [str(faults[index]), nearest_atoms(frame)]))
        if detail := fault or label.detail:
            numbered = f"frame {index + 1} of {part.formula}: {detail}"
            label = rejected(label, label.reason or RejectReason.OUTLIER, numbered)
        labels.append(label)
    return labels


def energy_fault(frame: Frames) -> str:
    """Say that the energy of a labelled frame is no total energy; "" where it may be one."""
    if not impossible_energies(frame)[0]:
        return ""
    return f"{calculated(frame).energy:.4g} eV is no total energy of {frame.formula}"


def calculated(frame: Frames) -> Calculated:
    """Return the label of a frame as a calculation."""
    assert frame.energies is not None and frame.forces is not None
    return Calculated(
        energy=float(frame.energies[0]),
        forces=frame.forces[0],
        virial=None if frame.virials is None else frame.virials[0],
        positions=frame.positions[0],
        cell=frame.cells[0],
    )


def rejected(label: LabelDoc, reason: RejectReason, detail: str) -> LabelDoc:
    """Return a label as rejected.

    Parameters
    ----------
    label
        Any label.
    reason, detail
        Why, as a word and as a sentence.
    """
    changes = {"status": LabelStatus.REJECTED, "reason": reason, "detail": detail}
    return label.model_copy(update=changes)


def rejections_in_words(labels: Sequence[LabelDoc]) -> str:
    """Return how many labels are rejected, by reason, with the first one; "" where none is."""
    reasons = Counter(label.reason.value for label in labels if label.reason)
    if not reasons:
        return ""
    first = next(label.detail for label in labels if label.reason)
    told = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
    return f"{reasons.total()} of {len(labels)} frames are rejected ({told}); first: {first}"


def enter(
    ledger: Ledger, labels: Sequence[LabelDoc], terms: Terms
) -> tuple[dict[str, LabelDoc], list[str]]:
    """Enter accepted labels into the ledger; a label that is there at their level stays.

    Rejected ones are not entered: a run may still want to calculate the same frame.

    Parameters
    ----------
    ledger
        Where to.
    labels
        What `judge` returned.
    terms
        Level of theory and limits of acceptance.

    Returns
    -------
    found
        The labels that count, by frame id in order: there before, entered, or rejected.
    notes
        Sentences for the user.
    """
    ids = [label.frame_id for label in labels]
    there = _accepted(ledger.settled(ids, terms))
    unknown = [label.frame.unlabelled() for label in labels if label.frame_id not in there]
    first = {**_accepted(adopt_twins(ledger, unknown, terms)), **there}
    found = {label.frame_id: first.setdefault(label.frame_id, label) for label in labels}
    new = [label for i, label in _accepted(found).items() if i not in there]
    if labels and not _accepted(found):
        raise InputError(f"none of the data can be used: {rejections_in_words(labels)}")
    ledger.record([label.model_copy(update=stamp()) for label in new])
    pairs = [(found[label.frame_id], label) for label in labels if label.reason is None]
    notes = [rejections_in_words(list(found.values())), differences_in_words(pairs)]
    return found, [note for note in notes if note]


def _accepted(labels: Mapping[str, LabelDoc]) -> dict[str, LabelDoc]:
    return {i: label for i, label in labels.items() if label.status is LabelStatus.ACCEPTED}


def differences_in_words(pairs: Sequence[tuple[LabelDoc, LabelDoc]]) -> str:
    """Return by how much second labels of frames differ from the first; "" where they do not."""
    sizes = [difference(first, second) for first, second in pairs]
    other = [(e, f) for e, f in sizes if e > EQUAL_ENERGIES or f > EQUAL_FORCES]
    if not other:
        return ""
    energy, force = np.max(other, axis=0)
    return (
        f"{len(other)} frames have a label of this level already, from which the data differ by "
        f"up to {1000 * energy:.3g} meV/atom and {force:.3g} eV/Å; the label that was there stays"
    )


def difference(first: LabelDoc, second: LabelDoc) -> tuple[float, float]:
    """Return how much two labels of one frame differ.

    Parameters
    ----------
    first, second
        The labels.

    Returns
    -------
    tuple
        Difference of the energies in eV/atom, and the largest difference of a force in eV/Å.
    """
    one, other = first.frame, second.frame
    assert one.energies is not None and other.energies is not None
    assert one.forces is not None and other.forces is not None
    energy = abs(float(one.energies[0] - other.energies[0])) / one.n_atoms
    return energy, float(np.linalg.norm(one.forces - other.forces, axis=-1).max())
