"""What the local runner's journal tells of the jobs of a run."""

from __future__ import annotations

from typing import Any

from jobflow.core.store import JobStore

from ionloop.schemas.job import JobRow, JobState
from ionloop.stores.connect import collection

# An entry of the journal has them under the same names.
_SHARED = JobRow.model_fields.keys() - {"state", "worker", "queue_id", "error"}


def journal_rows(store: JobStore, run: str) -> list[JobRow]:
    """Return the jobs in the local runner's journal, in the order of submission.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    """
    fields = [*_SHARED, "state", "host", "error", "order"]
    entries = collection(store, "jobs").query({"run": run}, properties=fields)
    return [_row(entry) for entry in sorted(entries, key=lambda entry: entry["order"])]


def _row(entry: dict[str, Any]) -> JobRow:
    state, error = entry["state"], entry.get("error") or {}
    return JobRow(
        **{name: entry[name] for name in _SHARED if name in entry},
        state=JobState.RUNNING if state == "finished" else JobState(state),
        worker=entry.get("host"),
        error=error.get("summary"),
    )
