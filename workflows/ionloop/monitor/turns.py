"""The finished turns of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from jobflow.core.store import JobStore

from ionloop.monitor.records import check_run, outputs
from ionloop.monitor.rows import TurnRow
from ionloop.schemas.iteration import IterationDoc
from ionloop.schemas.job import STORE_INPUTS, JobRow
from ionloop.schemas.learning import learning
from ionloop.schemas.potential import ForceErrors
from ionloop.stores.journal import journal_rows

_SAME = (TurnRow.model_fields.keys() & IterationDoc.model_fields.keys()) - {"notes"}


def iterations(store: JobStore, run: str) -> list[IterationDoc]:
    """Return the stored documents of the finished turns of a run, in order, arrays not loaded.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    """
    check_run(store, run)
    found = (IterationDoc.from_stored(output) for output in outputs(store, run, "IterationDoc"))
    return sorted(found, key=lambda document: document.progress.index)


def turns(store: JobStore, run: str, rows: Sequence[JobRow] | None = None) -> list[TurnRow]:
    """Return the finished turns of a run in order.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    rows
        The jobs as the engine shows them; by default those of the local runner's journal.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    """
    documents = iterations(store, run)
    wall = _wall_seconds(journal_rows(store, run) if rows is None else rows)
    spent = np.diff([document.progress.core_hours for document in documents], prepend=0.0)
    return [
        _turn_row(document, core_hours, wall.get(document.progress.index))
        for document, core_hours in zip(documents, spent.tolist(), strict=True)
    ]


def _turn_row(document: IterationDoc, core_hours: float, wall: float | None) -> TurnRow:
    new = document.new_label_errors
    return TurnRow(
        **{name: getattr(document, name) for name in _SAME},
        turn=document.progress.index,
        train_rmse=_mean_force_rmse(document.train_errors),
        validation_rmse=_mean_force_rmse(document.validation_errors),
        new_label_rmse=new.force_mev_per_angstrom if new else None,
        new_label_rms=new.force_rms_mev_per_angstrom if new else None,
        learning=learning(document.train_errors, document.validation_errors),
        core_hours=core_hours,
        wall_seconds=wall,
        action=document.decision.action.value,
        reason=document.decision.reason,
        notes=[*document.dataset.notes, *document.notes],
    )


def _mean_force_rmse(errors: Sequence[ForceErrors]) -> float | None:
    return float(np.mean([each.force_mev_per_angstrom for each in errors])) if errors else None


def _wall_seconds(rows: Sequence[JobRow]) -> dict[int, float]:
    """Return the time between the first start and the last end of every turn's jobs, s."""
    times: dict[int, list[datetime]] = defaultdict(list)
    for row in rows:
        at_work = row.name != STORE_INPUTS
        if at_work and row.iteration is not None and row.started and row.ended:
            times[row.iteration] += [row.started, row.ended]
    return {turn: (max(each) - min(each)).total_seconds() for turn, each in times.items()}
