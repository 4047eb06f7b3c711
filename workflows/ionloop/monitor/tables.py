"""Rows as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from ionloop.monitor.rows import JobsOverview, RunRow, Standing, TurnRow
from ionloop.schemas.job import JobRow, JobState
from ionloop.schemas.run import RunState, SummaryDoc
from ionloop.schemas.table import Table

_COLOURS = {
    RunState.RUNNING: "cyan",
    RunState.INTERRUPTED: "yellow",
    RunState.PAUSED: "yellow",
    RunState.COMPLETED: "green",
    RunState.FAILED: "red",
    RunState.CANCELLED: "dim",
}
_JOB_COLOURS = {
    JobState.RUNNING: "cyan",
    JobState.QUEUED: "cyan",
    JobState.FAILED: "red",
    JobState.COMPLETED: "green",
    JobState.PAUSED: "yellow",
}
SHORT_ID = 10
"""Characters of an id that a table shows; `ionloop show` finds things by them."""


def runs_table(rows: Sequence[RunRow]) -> RichTable:
    """Return the runs, one per line."""
    columns = ("started", "state", "turns", "labels", "accurate", "core h", "host")
    table = _table("run", *columns, right=("turns", "labels", "accurate", "core h"))
    for row in rows:
        table.add_row(
            row.run,
            _time(row.started),
            _state(row.standing.state),
            str(row.n_turns),
            str(row.n_labels),
            _percent(row.accurate_fraction),
            f"{row.core_hours:.2f}",
            row.host or "",
        )
    return table


def run_view(
    run: str,
    standing: Standing,
    turns: Sequence[TurnRow],
    overview: JobsOverview,
    summary: SummaryDoc | None = None,
) -> RenderableType:
    """Return one run: where it stands, turn by turn, what came out, what runs, what failed."""
    parts: list[RenderableType] = [standing_text(run, standing)]
    if turns:
        parts += [Text(), turns_table(turns), Text(), *_reasons(turns)]
    if summary is not None:
        parts += [Text(), summary_text(summary)]
    parts += [Text(), Text(f"jobs: {_counts(overview.by_state)}")]
    parts += [Text(f"  running: {_running(job)}", style="cyan") for job in overview.running]
    parts += [failed_text(job) for job in overview.failed]
    return Group(*parts)


def standing_text(run: str, standing: Standing) -> Text:
    """Return where a run stands, and how to go on."""
    text = Text.assemble(
        (run, "bold"), ": ", (standing.state.value, _COLOURS[standing.state]), ", "
    )
    text.append(standing.sentence)
    if standing.cure:
        text.append("\ncontinue with: ").append(standing.cure, style="bold")
    return text


def summary_text(summary: SummaryDoc) -> Text:
    """Return what came out at the end of a run."""
    text = Text(
        f"{summary.n_accepted} of {summary.n_labels} labels accepted, "
        f"{summary.core_hours:.2f} core hours"
    )
    if summary.validation is not None:
        errors = summary.validation.errors
        error, rms = errors.force_mev_per_angstrom, errors.force_rms_mev_per_angstrom
        text.append(
            f"\nvalidation on {errors.n_frames} frames: force RMSE {error:.0f} meV/Å, "
            f"{error / rms:.0%} of the forces' own RMS ({rms:.0f} meV/Å); "
            f"energy {errors.energy_mev_per_atom:.1f} meV/atom"
        )
    for note in summary.notes:
        text.append(f"\nnote: {note}", style="yellow")
    return text


def turns_table(rows: Sequence[TurnRow]) -> RichTable:
    """Return the turns, one per line."""
    names = ("stage", "T / K", "accurate", "cand.", "failed", "labels", "rejected")
    measured = ("train", "valid.", "new", "RMS", "rank", "core h", "wall")
    numbers = [name for name in (*names, *measured) if name not in ("T / K", "rejected")]
    table = _table("turn", *names, *measured, right=numbers)
    table.caption = (
        "force errors in meV/Å: of training and validation frames, of new labels before training "
        "on them; RMS: of the new labels' own forces"
    )
    for row in rows:
        table.add_row(
            str(row.turn), str(row.stage + 1), *_exploration_cells(row), *_error_cells(row)
        )
    return table


def jobs_table(rows: Sequence[JobRow]) -> RichTable:
    """Return the table of job states, one job per line, the same for every engine."""
    names = ("role", "turn", "state", "worker", "queue id", "tries", "job", "error")
    table = _table("id", *names, right=("turn", "tries"))
    for row in rows:
        table.add_row(
            row.job_id[:SHORT_ID],
            row.role,
            "" if row.iteration is None else str(row.iteration),
            f"[{_JOB_COLOURS.get(row.state, 'default')}]{row.state.value}[/]",
            row.worker or "",
            row.queue_id or "",
            str(row.tries),
            row.name,
            escape(row.error or ""),
        )
    return table


def frames_table(frames: Table) -> RichTable:
    """Return judged frames, one per line."""
    names = ("T / K", "traj.", "step", "max_devi_f", "verdict", "label", "reason", "frame")
    table = _table("turn", *names, right=("T / K", "traj.", "step", "max_devi_f"))
    for row in frames.rows():
        table.add_row(
            str(row["iteration"]),
            f"{row['temperature']:g}",
            str(row["trajectory"]),
            str(row["step"]),
            f"{row['max_devi_f']:.3f}",
            row["verdict"],
            " ".join(filter(None, (row["label"], row["label_reason"]))),
            row["reason"],
            row["frame_id"][:SHORT_ID],
        )
    return table


def failed_text(job: JobRow) -> Text:
    """Return why a job failed and where its files are."""
    text = Text("  failed: ", style="red").append(job.error or job.name, style="default")
    if job.folder:
        text.append(f"\n          files in {job.folder}", style="dim")
    return text


def _exploration_cells(row: TurnRow) -> list[str]:
    fates = row.rejected | ({"late": row.n_late} if row.n_late else {})
    rejected = ", ".join(f"{count} {fate}" for fate, count in fates.items())
    fractions = [f"{fraction:.1%}" for fraction in row.fractions]
    labels = f"{row.n_accepted}/{row.n_requested}"
    return [_range(row.temperatures), *fractions, labels, rejected]


def _error_cells(row: TurnRow) -> list[str]:
    errors = (row.train_rmse, row.validation_rmse, row.new_label_rmse, row.new_label_rms)
    rank = "" if row.rank_correlation is None else f"{row.rank_correlation:.2f}"
    return [
        *("" if error is None else f"{error:.0f}" for error in errors),
        rank,
        f"{row.core_hours:.2f}",
        "" if row.wall_seconds is None else str(timedelta(seconds=round(row.wall_seconds))),
    ]


def _reasons(turns: Sequence[TurnRow]) -> list[Text]:
    lines = []
    for row in turns:
        lines.append(Text.assemble((f"turn {row.turn}: {row.action}", "bold"), f", {row.reason}"))
        lines += [Text(f"  lost: {failure}", style="yellow") for failure in row.failures]
        lines += [Text(f"  note: {note}", style="yellow") for note in row.notes]
    return lines


def _running(job: JobRow) -> str:
    since = f" for {_since(job.started)}" if job.started else ""
    where = f" on {job.worker}" if job.worker else ""
    return f"{job.name}{since}{where}"


def _since(started: datetime) -> str:
    return str(timedelta(seconds=int((datetime.now(UTC) - started).total_seconds())))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"


def _range(temperatures: Sequence[float]) -> str:
    low, high = min(temperatures), max(temperatures)
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.1%}"


def _state(state: RunState) -> str:
    return f"[{_COLOURS[state]}]{state.value}[/]"


def _table(*names: str, right: Iterable[str]) -> RichTable:
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    aligned = set(right)
    for name in names:
        table.add_column(name, justify="right" if name in aligned else "left")
    return table
