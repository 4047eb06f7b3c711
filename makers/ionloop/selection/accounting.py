"""The result of a selection: every frame with its verdict and its reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.packed import Array
from ionloop.schemas.selection import (
    ConditionCounts,
    Histogram,
    Pick,
    SelectionDoc,
    TemperatureCounts,
    TrustWindow,
    Verdict,
    VerdictCounts,
)
from ionloop.schemas.table import Table
from ionloop.selection.physical import PhysicalLimits
from ionloop.selection.pick import SelectSettings, pick
from ionloop.selection.pool import frames_at

NOT_SENT = "not sent (over the cap of the exploration)"

_BINS = 40

_CONDITION = ("temperature", "pressure", "composition")


def select(
    deviations: Table,
    candidates: Sequence[Frames],
    dataset: Sequence[Frames],
    trust: TrustWindow,
    settings: SelectSettings,
    *,
    seed: int = 0,
    limits: PhysicalLimits | None = None,
) -> SelectionDoc:
    """Pick from an exploration, and give every frame of it a reason.

    Parameters
    ----------
    deviations
        The table of an `ExplorationDoc`; its verdicts are kept.
    candidates
        The frames that its column ``frame`` counts, one entry per composition.
    dataset
        The labelled frames.
    trust
        The windows with which the verdicts were made.
    settings, seed, limits
        As for `pick`.

    Returns
    -------
    SelectionDoc
        Without the run and the job that it belongs to. Its histogram counts all frames that were
        judged and have a finite deviation; what is above its last edge, at twice the upper trust
        level, is counted in the last bin.

    Raises
    ------
    ValueError
        If the frames that the table names are not the candidates, each once.
    """
    ids = [frame_id for frames in candidates for frame_id in frames.ids]
    rows = _rows_of_candidates(deviations, len(ids))
    picks = pick(
        candidates, deviations["max_devi_f"][rows], dataset, settings, seed=seed, limits=limits
    )
    picked = np.array(picks.indices, dtype=int)
    verdicts = _final_verdicts(deviations, ids, picks.reasons)
    return SelectionDoc(
        trust=trust,
        seed=seed,
        max_labels=settings.max_labels,
        counts=VerdictCounts(**next(_count_by(deviations), {})),
        by_temperature=[TemperatureCounts(**row) for row in _count_by(deviations, "temperature")],
        conditions=[ConditionCounts(**row) for row in _count_by(deviations, *_CONDITION)],
        histogram=_histogram(deviations, trust),
        picks=[
            Pick(**{name: row[name] for name in Pick.model_fields})
            for row in verdicts.where(rows[picked]).rows()
        ],
        set_aside=_set_aside(verdicts),
        # Joined by composition, each in the order of the pick.
        picked=concatenate(frames for frames, _ in frames_at(candidates, picked)),
        verdicts=verdicts,
    )


def _rows_of_candidates(deviations: Table, n_candidates: int) -> Array:
    """Return the row of every candidate, (c,)."""
    rows = np.flatnonzero(deviations["frame"] >= 0)
    numbers = deviations["frame"][rows]
    if not np.array_equal(np.sort(numbers), np.arange(n_candidates)):
        raise ValueError(
            f"the deviations name {len(rows)} frames and {n_candidates} candidates came with "
            "them: every candidate needs one row"
        )
    return rows[np.argsort(numbers)]


def _final_verdicts(deviations: Table, ids: Sequence[str], reasons: Sequence[str]) -> Table:
    """Add the frame ids, and give every candidate its final reason."""
    number = deviations["frame"]
    waiting = (deviations["verdict"] == Verdict.CANDIDATE) & (number < 0)
    kept = np.where(waiting, NOT_SENT, deviations["reason"])
    return deviations.with_columns(
        frame_id=np.array([*ids, ""])[number],
        reason=np.where(number >= 0, np.array([*reasons, ""])[number], kept),
    )


def _count_by(deviations: Table, *names: str) -> Iterator[dict[str, Any]]:
    """Yield the values and the verdict counts of every group of rows that agree in some columns.

    Without columns, all rows are one group. A column that the table lacks, as tables from before
    there were compositions do, is empty.
    """
    columns = [deviations.columns.get(name, np.full(len(deviations), "")) for name in names]
    group = np.zeros(len(deviations), dtype=int)
    for column in columns:
        values, level = np.unique(column, return_inverse=True)
        group = group * len(values) + level
    _, firsts, group = np.unique(group, return_index=True, return_inverse=True)
    counts = {
        str(word): np.bincount(group[deviations["verdict"] == word], minlength=len(firsts))
        for word in Verdict
    }
    for number, first in enumerate(firsts):
        shared = {name: column[first].item() for name, column in zip(names, columns, strict=True)}
        yield shared | {word: int(count[number]) for word, count in counts.items()}


def _histogram(deviations: Table, trust: TrustWindow) -> Histogram:
    edges = np.linspace(0.0, 2 * trust.high, _BINS + 1)
    values = deviations["max_devi_f"]
    judged = np.isfinite(values) & (deviations["verdict"] != Verdict.SKIPPED)
    counts, _ = np.histogram(np.minimum(values[judged], edges[-1]), edges)
    return Histogram(edges=edges.tolist(), counts=counts.tolist())


def _set_aside(verdicts: Table) -> dict[str, int]:
    """Count the candidates that were not picked by reason, without the ids in it."""
    reasons = verdicts["reason"][verdicts["verdict"] == Verdict.CANDIDATE].tolist()
    missed = [reason for reason in reasons if not reason.startswith("picked")]
    return dict(Counter(re.sub(r" [0-9a-f]{24}$", "", reason) for reason in missed))
