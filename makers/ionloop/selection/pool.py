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


_SAME = 3e-4  # Å: so near only if one structure, rounded or its atoms in another order

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
    """Frames of one composition that a candidate must not resemble.

    Parameters
    ----------
    tolerance
        Distance in Å up to which two frames count as one.
    """

    def __init__(self, tolerance: float) -> None:
        self.ids: list[str] = []
        self._prints: Array | None = None
        self._scaled: Array | None = None
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
        self._prints = _joined(self._prints, prints)
        self._scaled = _joined(self._scaled, scaled_positions(frames))

    def distances(self, prints: Array) -> Array:
        """Return the distances (Å) of fingerprints (f, d) to those of the crowd, (f, g)."""
        if self._prints is None:
            return np.empty((len(prints), 0))
        return distances(prints, self._prints)

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
        if self._scaled is None or not len(near):
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
    _labelled: dict[str, Crowd] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._starts = np.cumsum([0, *map(len, self.candidates)])

    def __len__(self) -> int:
        """Return the number of candidates."""
        return int(self._starts[-1])

    def look(self, indices: Array) -> list[Look]:
        """Examine candidates, in the order given."""
        entries = np.searchsorted(self._starts, indices, side="right") - 1
        looks: dict[int, Look] = {}
        for entry in np.unique(entries):
            members = indices[entries == entry]
            frames = self.candidates[entry][members - self._starts[entry]]
            looks.update((look.index, look) for look in self._look(frames, members.tolist()))
        return [looks[index] for index in indices.tolist()]

    def _look(self, frames: Frames, indices: list[int]) -> Iterator[Look]:
        """Examine frames of one composition, numbered `indices`."""
        labelled = self._labelled_like(composition_of(frames))
        bought = np.isin(frames.ids, labelled.ids)
        faults = np.where(bought, LABELLED, inspect(frames, self.limits).faults)
        prints = np.full((len(frames), width(frames)), np.nan)
        prints[faults == ""] = fingerprints(frames[faults == ""])
        apart = labelled.distances(prints)
        for number, (index, fault) in enumerate(zip(indices, faults.tolist(), strict=True)):
            near = "" if fault else labelled.like(frames[number], apart[number])
            yield Look(
                index=index,
                frame=frames[number],
                fault=f"too near labelled frame {near}" if near else fault,
                fingerprint=prints[number],
                isolation=float(apart[number].min(initial=np.inf)),
            )

    def _labelled_like(self, composition: str) -> Crowd:
        """Return the labelled frames of a composition; they are prepared when first needed."""
        if composition not in self._labelled:
            crowd = self._labelled[composition] = Crowd(self.tolerance)
            for frames in self.dataset:
                if len(frames) and composition_of(frames) == composition:
                    crowd.add(frames, fingerprints(frames))
        return self._labelled[composition]


def composition_of(frames: Frames) -> str:
    """Return the symbols of frames in alphabetical order, separated by blanks."""
    return " ".join(sorted(frames.symbols))


def _joined(known: Array | None, more: Array) -> Array:
    return more if known is None else np.concatenate([known, more])
