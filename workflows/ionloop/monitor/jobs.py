"""The jobs of a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from jobflow.core.store import JobStore

from ionloop.monitor.records import check_run
from ionloop.monitor.rows import JobsOverview
from ionloop.schemas.job import JOURNAL_FIELDS, JobRow, journal_table
from ionloop.stores.connect import collection


def jobs(store: JobStore, run: str, rows: Sequence[JobRow] | None = None) -> JobsOverview:
    """Return the jobs of a run by role and state.

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
    check_run(store, run)
    found = journal_rows(store, run) if rows is None else list(rows)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in found:
        counts[row.role][row.state.value] += 1
    return JobsOverview(counts={role: dict(states) for role, states in counts.items()}, rows=found)


def journal_rows(store: JobStore, run: str) -> list[JobRow]:
    """Return the jobs in the local runner's journal, in the order of submission.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    """
    entries = collection(store, "jobs").query({"run": run}, properties=JOURNAL_FIELDS)
    return journal_table(entries)
