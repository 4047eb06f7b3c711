"""The candidates of a pick; a candidate is examined only when it is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.selection.fingerprint import (
    displacements,
    distances,
    fingerprints,
    scaled_positions,
    width,
)
from ionloop.selection.physical import PhysicalLimits, inspect

LABELLED = "already labelled"


_SAME = 3e-4  # Å: nearer are only copies, rounded or with the atoms in another order

_NOISE = 1e-6  # Å: rounding of the distance between equal fingerprints


@dataclass(frozen=True, eq=False)
class Look:
    """What is known of a candidate that was examined.

    Parameters
    ----------
    index
        Number of the candidate, counted over all compositions.
    frame
        The candidate.
    fault
        Why it cannot be picked, whatever was picked before; "" if it can.
    fingerprint
        Its fingerprint in Å, (d,); NaN if it has a fault, since it is not needed then.
    isolation
        Fingerprint distance in Å to the nearest labelled frame; infinite without any.
    """

    index: int
    frame: Frames
    fault: str
    fingerprint: Array
    isolation: float

    @property
    def composition(self) -> str:
        """Symbols in alphabetical order."""
        return composition_of(self.frame)


class Crowd:
    """Frames of one composition that a candidate must not resemble; empty at first.

    Parameters
    ----------
    tolerance
        Distance in Å up to which two frames count as one.
    frames
        Any frames of the composition.

    Attributes
    ----------
    ids, prints
        Ids of the frames, and their fingerprints in Å, (f, d).
    """

    def __init__(self, tolerance: float, frames: Frames) -> None:
        self.ids: list[str] = []
        self.prints: Array = np.empty((0, width(frames)))
        self._scaled: Array = np.empty((0, frames.n_atoms, 3))
        self._tolerance = tolerance

    def add(self, frames: Frames, prints: Array) -> None:
        """Add frames (f) with their fingerprints (f, d).

        Parameters
        ----------
        frames
            f frames of the composition.
        prints
            Their fingerprints in Å, (f, d).
        """
        self.ids.extend(frames.ids)
        self.prints = np.concatenate([self.prints, prints])
        self._scaled = np.concatenate([self._scaled, scaled_positions(frames)])

    def like(self, frame: Frames, apart: Array) -> str:
        """Return the id of the frame that a candidate resembles most; "" if it resembles none.

        Parameters
        ----------
        frame
            The candidate.
        apart
            Its fingerprint distances in Å to the frames of the crowd, (g,).
        """
        near = np.flatnonzero(apart <= self._tolerance + _NOISE)
        if not len(near):
            return ""
        scaled = scaled_positions(frame)[0]
        moved = displacements(scaled, frame.cells[0], self._scaled[near])
        same = apart[near] <= min(_SAME, self._tolerance) + _NOISE
        alike = near[same | (moved <= self._tolerance)]
        return self.ids[alike[apart[alike].argmin()]] if len(alike) else ""


@dataclass
class Pool:
    """Candidates of several compositions under one numbering, and the labelled frames.

    Parameters
    ----------
    candidates
        Frames, one entry per composition; they are numbered in this order.
    dataset
        Labelled frames.
    tolerance
        Distance in Å up to which a candidate counts as labelled already.
    limits
        Physical limits.
    """

    candidates: Sequence[Frames]
    dataset: Sequence[Frames]
    tolerance: float
    limits: PhysicalLimits
    _labelled: dict[str, Crowd] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        """Return the number of candidates."""
        return sum(map(len, self.candidates))

    def look(self, indices: Array) -> list[Look]:
        """Examine candidates, in the order given."""
        looks: dict[int, Look] = {}
        for frames, members in frames_at(self.candidates, indices):
            looks.update((look.index, look) for look in self._look(frames, members.tolist()))
        return [looks[index] for index in indices.tolist()]

    def _look(self, frames: Frames, indices: list[int]) -> Iterator[Look]:
        """Examine frames of one composition, numbered `indices`."""
        labelled = self._labelled_like(frames)
        bought = np.isin(frames.ids, labelled.ids)
        faults = np.where(bought, LABELLED, inspect(frames, self.limits).faults)
        prints = np.full((len(frames), width(frames)), np.nan)
        prints[faults == ""] = fingerprints(frames[faults == ""])
        apart = distances(prints, labelled.prints)
        for number, (index, fault) in enumerate(zip(indices, faults.tolist(), strict=True)):
            near = "" if fault else labelled.like(frames[number], apart[number])
            yield Look(
                index=index,
                frame=frames[number],
                fault=f"too near labelled frame {near}" if near else fault,
                fingerprint=prints[number],
                isolation=float(apart[number].min(initial=np.inf)),
            )

    def _labelled_like(self, candidates: Frames) -> Crowd:
        """Return the labelled frames of a composition; they are prepared when first needed."""
        composition = composition_of(candidates)
        if composition not in self._labelled:
            crowd = self._labelled[composition] = Crowd(self.tolerance, candidates)
            for frames in self.dataset:
                if composition_of(frames) == composition:
                    crowd.add(frames, fingerprints(frames))
        return self._labelled[composition]


def frames_at(candidates: Sequence[Frames], indices: Array) -> Iterator[tuple[Frames, Array]]:
    """Yield the frames with some numbers, entry by entry, each time with their numbers.

    Parameters
    ----------
    candidates
        Frames, numbered through all entries.
    indices
        Numbers of frames, (i,); the frames of an entry come in this order.
    """
    starts = np.cumsum([0, *map(len, candidates)])
    entries = np.searchsorted(starts, indices, side="right") - 1
    for entry in np.unique(entries):
        members = indices[entries == entry]
        yield candidates[entry][members - starts[entry]], members


def composition_of(frames: Frames) -> str:
    """Return the symbols of frames in alphabetical order, separated by blanks."""
    return " ".join(sorted(frames.symbols))
