"""Labels: energies, forces and virials calculated at a level of theory."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any, Self

import numpy as np
from pydantic import Field, computed_field

from ionloop.schemas.document import Document, Model
from ionloop.schemas.frames import Frames, label_id
from ionloop.schemas.kpoints import StartCell
from ionloop.schemas.likeness import likeness
from ionloop.schemas.units import Energy, Force, Length, Seconds

TEACHER = "teacher"
"""Code of the level of theory of labels that an ensemble of potentials predicted."""


class LevelOfTheory(Model):
    """Everything that decides a label's value; labels of two levels never mix.

    What belongs to a chemical element, such as its pseudopotential, is kept by element, so that
    the key of a label holds only the elements of its frame: `of` leaves the others out. It also
    leaves out start cells of other compositions, because the frame cannot come from them.
    """

    code: str
    """program or model family, such as sevennet or vasp"""
    settings: dict[str, Any]
    """functional, cut-off, model name, …"""
    elements: dict[str, dict[str, Any]] = Field({})
    """by chemical symbol: pseudopotential, basis set, …"""
    start_cells: list[StartCell] = Field([])
    """where k-points are kept: the start cells whose meshes they are"""
    former: list[str] = Field([])
    """hashes under which earlier versions kept labels of exactly this level"""

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the sha256 of the canonical JSON."""
        starts = [start.model_dump(mode="json") for start in self.start_cells]
        content = [self.code, self.settings, *filter(None, (self.elements, starts))]
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def description(self) -> str:
        """The level as a text, such as ``sevennet (model 7net-0)``."""
        settings = [f"{key} {value}" for key, value in self.settings.items()]
        # The name of a pseudopotential says what it is; a number needs its own name before it.
        elements = [
            f"{symbol} "
            + ", ".join(v if isinstance(v, str) else f"{name} {v}" for name, v in about.items())
            for symbol, about in sorted(self.elements.items())
        ]
        starts = [start.description for start in self.start_cells]
        return f"{self.code} ({', '.join(settings + elements + starts)})"

    @property
    def is_teacher(self) -> bool:
        """Whether the labels are predictions of an ensemble that teaches another."""
        return self.code == TEACHER

    def is_same_code(self, words: str) -> bool:
        """Tell whether a level in words is one of the same code."""
        return words.startswith(f"{self.code} (")

    def is_same(self, other: LevelOfTheory) -> bool:
        """Tell whether two levels are certainly the same; versions may hash them differently."""
        return self.hash == other.hash or other.hash in self.former or self.hash in other.former

    def of(self, species: Iterable[str]) -> Self:
        """Return the level of a frame that consists of these elements.

        Parameters
        ----------
        species
            Chemical symbols.
        """
        present = set(species)
        elements = {symbol: about for symbol, about in self.elements.items() if symbol in present}
        starts = [start for start in self.start_cells if set(start.composition) == present]
        return self.model_copy(update={"elements": elements, "start_cells": starts})

    def keys(self, species: Iterable[str]) -> list[str]:
        """Return the hashes under which labels of such frames are kept, today's first.

        Parameters
        ----------
        species
            Chemical symbols of the frame.
        """
        return [self.of(species).hash, *self.former]


class LabelStatus(StrEnum):
    """Verdict on a requested label."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class RejectReason(StrEnum):
    """Why a label was rejected.

    The first group is a verdict on a finished calculation, which stands as long as the settings
    that led to it do; the second says that there was no result, and the frame is calculated again
    if it is requested again.
    """

    UNCONVERGED = "unconverged"
    MISSHAPED = "misshaped"
    NON_FINITE = "non-finite"
    OUTLIER = "outlier"
    OTHER_LEVEL = "other level"

    LABELLER_FAILED = "labeller failed"
    NO_RESULT = "no result"

    @property
    def is_final(self) -> bool:
        """Whether calculating again with the same settings would give the same verdict."""
        return self not in (RejectReason.LABELLER_FAILED, RejectReason.NO_RESULT)


class Calculation(Model):
    """What is known of a finished calculation besides its numbers.

    The verdict on a label follows from this, its numbers, and the limits of the run.
    """

    converged: bool = True
    """whether the electronic steps converged"""
    misshaped: str = ""
    """what has the wrong shape, in words; else empty"""
    non_finite: str = ""
    """what holds NaN or infinity, in words; else empty"""
    level_difference: str = ""
    """in what it differs from the level of theory; empty where in nothing"""
    displacement: Length = 0.0
    """largest distance of a calculated atom from where it was requested, Å"""
    cell_change: Length = 0.0
    """largest distance of a calculated lattice vector from the request, Å"""


class LabelDoc(Document):
    """One label. It is written as soon as it is calculated, and never calculated again.

    It keeps the calculation whatever the verdict; status, reason and detail are the verdict by the
    limits of the run that calculated it, and other limits may give another one.
    """

    frame_id: str
    level: str
    """hash of the level of theory, for the elements of the frame"""
    level_words: str = ""
    status: LabelStatus
    reason: RejectReason | None = None
    detail: str = ""
    """a sentence on the rejection"""
    energy: Energy | None = None
    species: list[str]
    n_atoms: int
    seconds: Seconds = 0.0
    """wall time of the calculation"""
    cores: int = 1
    calculation: Calculation | None = None
    """none where there was no result, or where version 0.1 rejected the label"""
    effort: dict[str, Any] = Field({})
    """settings outside the level that decide whether there is a result, such as the most electronic
    steps"""
    frame: Frames
    """the frame, with its numbers where they are whole and finite"""
    copied_from: str | None = None
    """label that this one repeats: calculated for the same configuration, with its atoms in another
    order, at other images, or rotated"""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label_id(self) -> str:
        """Key of the label: frame id and level."""
        return label_id(self.frame_id, self.level)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def likeness(self) -> str:
        """Key that is the same for all descriptions of the frame's configuration."""
        return likeness(self.frame)[0]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def largest_force(self) -> Force | None:
        """Largest force on an atom in eV/Å, where there are forces."""
        if self.frame.forces is None:
            return None
        return float(np.linalg.norm(self.frame.forces[0], axis=1).max())


class Rejection(Model):
    """A requested label that is not in the data set, and why."""

    frame_id: str
    reason: RejectReason
    detail: str = ""


class Labels(Document):
    """Result of a labelling step: the labelled frames, and what happened to the others."""

    level: LevelOfTheory
    n_requested: int
    n_reused: int = 0
    """labels that were in the store already"""
    rejections: list[Rejection] = Field([])
    late: list[str] = Field([])
    """frame ids still being labelled when the quorum was in; they may join later"""
    seconds: Seconds = 0.0
    """wall time of the new calculations, summed"""
    core_seconds: Seconds = 0.0
    """wall time times cores, summed"""
    n_accepted: int = 0
    frames: list[Frames] = Field([])
    """accepted, one per composition"""
    notes: list[str] = Field([])
    """what a reader of results from these labels has to know"""

    @property
    def rejected_by_reason(self) -> dict[str, int]:
        """Number of rejected labels by reason."""
        return dict(Counter(rejection.reason.value for rejection in self.rejections))

    def at(self, level: LevelOfTheory) -> Self:
        """Return the labels at a level that is certainly theirs, under its hash of today."""
        frames = [replace(part, level=level.hash) for part in self.frames]
        return self.model_copy(update={"level": level, "frames": frames})


def at_todays_levels(dataset: Sequence[Labels]) -> list[Labels]:
    """Name each level of a data set by one hash; an earlier version may have begun with another.

    Parameters
    ----------
    dataset
        Labels of the steps of a run, in their order; the last one of the same level decides.
    """
    levels = [labels.level for labels in dataset]
    named = [next(each for each in reversed(levels) if each.is_same(level)) for level in levels]
    return [
        labels if labels.level.hash == level.hash else labels.at(level)
        for labels, level in zip(dataset, named, strict=True)
    ]
