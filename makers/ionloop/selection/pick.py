"""The pick: which candidates are labelled, and why the others are not.

Candidates are taken in the order of a strategy:

- ``random``: in random order, the baseline that every other strategy has to beat;
- ``farthest``: farthest-point sampling: each pick is the candidate whose fingerprint is farthest
  from those of the labelled frames and of the earlier picks;
- ``highest``: the largest deviation first.

A candidate is set aside, with a reason, if it is labelled already, if its atoms are too near each
other, or if it resembles a labelled frame or an earlier pick; the next one takes its place. Two
frames resemble each other if their fingerprints and, unless these are the same, their atoms are
within the tolerance. Only as many candidates are looked at as are needed. The picks are not
balanced over temperatures: a temperature with more candidates gets more picks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.selection.fingerprint import TOLERANCE, distances
from ionloop.selection.physical import PhysicalLimits
from ionloop.selection.pool import Crowd, Look, Pool

Strategy = Literal["random", "farthest", "highest"]


OVER_MAX = "over max_labels"


_BLOCK = 256  # candidates looked at together


class SelectSettings(Model):
    """How candidates are picked."""

    max_labels: PositiveInt = 300
    """labels per turn at most"""
    strategy: Strategy = "random"
    """order in which candidates are taken: seeded random, farthest-point on a structural
    fingerprint, or largest deviation first"""
    tolerance: NonNegativeFloat = Field(TOLERANCE, json_schema_extra={"unit": "Å"})
    """fingerprint distance up to which two frames count as duplicates; rattling every atom of LGPS
    for some 6 fs at 300 K reaches the default"""


class Picks(NamedTuple):
    """The outcome of a pick.

    Parameters
    ----------
    indices
        Picked candidates in the order of the pick, counted over all compositions.
    reasons
        One for every candidate.
    """

    indices: list[int]
    reasons: list[str]


def pick(
    candidates: Sequence[Frames],
    max_devi_f: Array,
    dataset: Sequence[Frames],
    settings: SelectSettings,
    *,
    seed: int = 0,
    limits: PhysicalLimits | None = None,
) -> Picks:
    """Pick at most `settings.max_labels` candidates, replacing those that are set aside.

    Parameters
    ----------
    candidates
        Frames, one entry per composition; c in all.
    max_devi_f
        Their maximum force deviations in eV/Å, (c,), in the order of `candidates`.
    dataset
        The labelled frames. A candidate is compared with those of its composition.
    settings
        Largest number of picks, their order, and up to which distance two frames count as one; a
        distance of 0 leaves out exact copies only.
    seed
        Seed of the random order, and of the order of equal deviations or distances.
    limits
        Physical limits; the defaults of `PhysicalLimits` if absent.

    Returns
    -------
    Picks
        Indices of the picks, and a reason for every candidate: "picked: <strategy>", "over
        max_labels", "already labelled", "too near labelled frame <id>", "too near pick <id>" or
        what `inspect` found.

    Raises
    ------
    ValueError
        If the deviations are not one per candidate, or the strategy is unknown.
    """
    pool = Pool(candidates, dataset, settings.tolerance, limits or PhysicalLimits())
    if len(max_devi_f) != len(pool):
        raise ValueError(f"{len(max_devi_f)} deviations for {len(pool)} candidates: give one each")
    reasons = [OVER_MAX] * len(pool)
    indices: list[int] = []
    picked: dict[str, Crowd] = {}
    for look in _in_order(settings, pool, np.asarray(max_devi_f), seed):
        if len(indices) >= settings.max_labels:
            break
        crowd = picked.setdefault(look.composition, Crowd(settings.tolerance, look.frame))
        apart = distances(look.fingerprint[None], crowd.prints)[0]
        near = "" if look.fault else crowd.like(look.frame, apart)
        if look.fault or near:
            reasons[look.index] = look.fault or f"too near pick {near}"
            continue
        reasons[look.index] = f"picked: {settings.strategy}"
        crowd.add(look.frame, look.fingerprint[None])
        indices.append(look.index)
    return Picks(indices, reasons)


def _in_order(settings: SelectSettings, pool: Pool, max_devi_f: Array, seed: int) -> Iterator[Look]:
    """Yield candidates in the order of the strategy."""
    strategy = settings.strategy
    order = np.random.default_rng(seed).permutation(len(pool))
    if strategy == "farthest":
        return _farthest(pool.look(order), settings.tolerance)
    if strategy == "highest":
        order = order[np.argsort(-max_devi_f[order], kind="stable")]
    elif strategy != "random":
        raise ValueError(
            f"strategy '{strategy}' is unknown: choose from {', '.join(get_args(Strategy))}"
        )
    blocks = (order[start : start + _BLOCK] for start in range(0, len(order), _BLOCK))
    return (look for block in blocks for look in pool.look(block))


def _farthest(looks: list[Look], tolerance: float) -> Iterator[Look]:
    """Yield those with a fault first, then the others by farthest-point sampling."""
    yield from (look for look in looks if look.fault)
    sound = [look for look in looks if not look.fault]
    compositions = np.array([look.composition for look in sound])
    groups = {name: np.flatnonzero(compositions == name) for name in set(compositions.tolist())}
    prints = {name: np.array([sound[i].fingerprint for i in groups[name]]) for name in groups}
    isolation = np.array([look.isolation for look in sound])
    while isolation.max(initial=-np.inf) > tolerance:
        best = int(isolation.argmax())
        yield sound[best]
        members = groups[sound[best].composition]
        apart = distances(sound[best].fingerprint[None], prints[sound[best].composition])[0]
        isolation[members] = np.minimum(isolation[members], apart)
        isolation[best] = -np.inf
    left = np.argsort(-isolation, kind="stable")[: np.sum(isolation > -np.inf)]
    yield from (sound[number] for number in left)
