"""All runs of a store, and where each of them stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from jobflow.core.store import JobStore

from ionloop.monitor.records import jobs, outputs, run_ids, run_record, summary
from ionloop.monitor.rows import JobsOverview, RunRow, RunStatus, Standing
from ionloop.monitor.turns import turns
from ionloop.schemas.job import JobRow, JobState
from ionloop.schemas.process import lives
from ionloop.schemas.run import WAITING, RunState, SummaryDoc, engine_name

_STOPPED = {
    JobState.PAUSED: (RunState.PAUSED, "ionloop resume {}"),
    JobState.FAILED: (RunState.FAILED, "ionloop retry {}"),
    JobState.CANCELLED: (RunState.CANCELLED, ""),
}
"""What a run on a queue is when it has jobs in this state and nothing runs, and how to go on."""


def runs(store: JobStore) -> list[RunRow]:
    """Return all runs, the newest last."""
    return [_run_row(store, run, summary(store, run)) for run in run_ids(store)]


def status(store: JobStore, run: str, rows: Sequence[JobRow] | None = None) -> RunStatus:
    """Return one run turn by turn, with its jobs and what it ended with.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.
    rows
        The jobs as the engine shows them; by default what the store knows of them.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    """
    end, overview = summary(store, run), jobs(store, run, rows)
    return RunStatus(
        **dict(_run_row(store, run, end, rows)),
        turns=turns(store, run, overview.rows),
        jobs=overview,
        summary=end,
    )


def _run_row(
    store: JobStore, run: str, end: SummaryDoc | None, rows: Sequence[JobRow] | None = None
) -> RunRow:
    record = run_record(store, run)
    wanted = ["output.progress", "output.n_training_frames"]
    found = outputs(store, run, "IterationDoc", wanted)
    last = max(found, key=lambda each: each["progress"]["index"], default=None)
    final = end.model_dump(include={"n_labels", "n_accepted", "core_hours"}) if end else {}
    return RunRow(
        run=run,
        started=record.get("started"),
        host=(record.get("runner") or {}).get("host") or record.get("host"),
        standing=_ended(end) if end else _not_ended(store, run, record, rows),
        **((_so_far(last) if last else {}) | final),
    )


def _so_far(turn: dict[str, Any]) -> dict[str, Any]:
    progress = turn["progress"]
    return {
        "n_turns": progress["index"] + 1,
        "n_labels": progress["n_labels"],
        "n_accepted": turn["n_training_frames"],
        "accurate_fraction": progress["accurate_fractions"][-1],
        "core_hours": progress["core_hours"],
    }


def _ended(end: SummaryDoc) -> Standing:
    how = "converged" if end.converged else "stopped unconverged"
    sentence = f"{how} after {end.n_turns} turn(s): {end.reason}"
    return Standing(state=RunState.COMPLETED, sentence=sentence)


def _not_ended(
    store: JobStore, run: str, record: dict[str, Any], rows: Sequence[JobRow] | None
) -> Standing:
    if record.get("state") == RunState.CANCELLED:
        sentence = "cancelled before its end; its labels and models stay in the store"
        return Standing(state=RunState.CANCELLED, sentence=sentence)
    if (engine := engine_name(record)) != "local":
        return _on_queue(run, engine, rows)
    runner, overview = record.get("runner"), jobs(store, run, rows)
    if runner and lives(runner):
        return Standing(state=RunState.RUNNING, sentence=_at_work(runner, overview))
    return _not_running(run, runner, overview)


def _at_work(runner: dict[str, Any], overview: JobsOverview) -> str:
    roles = Counter(job.role for job in overview.running)
    work = ", ".join(f"{count} {role}" for role, count in roles.items()) or "between two jobs"
    numbers = [job.iteration for job in overview.running if job.iteration is not None]
    turn = f" on turn {max(numbers)}" if numbers else ""
    return f"{_process(runner)} is at work{turn}: {work}"


def _on_queue(run: str, engine: str, rows: Sequence[JobRow] | None) -> Standing:
    if rows is None:
        return Standing(state=RunState.RUNNING, sentence=f"submitted to {engine}")
    if not rows:
        sentence = f"{engine} has no job of it: its submission was interrupted"
        return Standing(state=RunState.INTERRUPTED, sentence=sentence, cure=f"ionloop resume {run}")
    counts = Counter(row.state for row in rows)
    sentence = f"{engine}: {', '.join(f'{n} {state}' for state, n in counts.items())}"
    for state, (stopped_as, cure) in _STOPPED.items():
        if counts[state] and not counts[JobState.RUNNING] + counts[JobState.QUEUED]:
            return Standing(state=stopped_as, sentence=sentence, cure=cure.format(run))
    return Standing(state=RunState.RUNNING, sentence=sentence)


def _not_running(run: str, runner: dict[str, Any] | None, overview: JobsOverview) -> Standing:
    resume = f"ionloop resume {run}"
    again = f"{resume} --retry-failed"
    if runner:
        sentence = f"its runner ({_process(runner)}) is gone, and the run had not ended"
        return Standing(state=RunState.INTERRUPTED, sentence=sentence, cure=resume)
    errors = [job.error or f"{job.name} failed" for job in overview.failed]
    if waiting := [error for error in errors if WAITING in error]:
        sentence = waiting[0].partition(f"{WAITING}: ")[2]
        return Standing(state=RunState.PAUSED, sentence=sentence, cure=again)
    if errors and not overview.by_state.get("waiting"):
        sentence = f"{len(errors)} job(s) failed; first: {errors[0]}"
        return Standing(state=RunState.FAILED, sentence=sentence, cure=again)
    sentence = "it has not ended, and nothing runs it now"
    return Standing(state=RunState.INTERRUPTED, sentence=sentence, cure=resume)


def _process(runner: dict[str, Any]) -> str:
    return f"process {runner['pid']} on {runner['host']}"
