"""Rows as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from ionloop.monitor.rows import RunRow, RunStatus, Standing, TurnRow
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

ERRORS_LEGEND = (
    "force errors in meV/Å: of training and validation frames, of new labels before training on "
    "them; RMS: of the new labels' own forces; rank: of their deviations and errors"
)

SHORT_ID = 10
"""Characters of an id that a table shows; `ionloop show` finds things by them."""


def runs_table(rows: Sequence[RunRow]) -> RichTable:
    """Return the runs, one per line."""
    numbers = ("turns", "labels", "accurate", "core h")
    table = _table("run", "started", "state", *numbers, right=numbers, wide=("run",))
    for row in rows:
        table.add_row(
            escape(row.run),
            _time(row.started),
            _state(row.standing.state),
            str(row.n_turns),
            f"{row.n_accepted}/{row.n_labels}",
            _percent(row.accurate_fraction),
            _hours(row.core_hours),
        )
    table.caption = "labels: accepted/requested, those of finished turns until the run has ended"
    return table


def run_view(status: RunStatus) -> RenderableType:
    """Return one run: where it stands, turn by turn, what came out, what runs, what failed."""
    turns, overview = status.turns, status.jobs
    parts: list[RenderableType] = [standing_text(status.run, status.standing)]
    if turns:
        parts += [Text(), turns_table(turns)]
        parts += [Text(), errors_table(turns), Text(ERRORS_LEGEND, style="dim italic")]
        parts += [Text(), *_reasons(turns)]
    parts += [Text(), totals_text(status)]
    if status.summary is not None:
        parts += summary_lines(status.summary)
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


def totals_text(row: RunRow) -> Text:
    """Return what a run has used, in the numbers of the table of runs."""
    ended = row.standing.state is RunState.COMPLETED
    when = "in all" if ended else f"after {row.n_turns} turn(s)"
    return Text(
        f"{when}: {row.n_accepted} of {row.n_labels} labels accepted, "
        f"{_hours(row.core_hours)} core hours"
    )


def summary_lines(summary: SummaryDoc) -> list[Text]:
    """Return what the potential reaches at the end of a run, and what a reader has to know."""
    lines = [Text(f"note: {note}", style="yellow") for note in summary.notes]
    if summary.validation is None:
        return lines
    errors = summary.validation.errors
    error, rms = errors.force_mev_per_angstrom, errors.force_rms_mev_per_angstrom
    reached = Text(
        f"validation on {errors.n_frames} frames{summary.validation.which}: "
        f"force RMSE {error:.0f} meV/Å, "
        f"{error / rms:.0%} of the forces' own RMS ({rms:.0f} meV/Å); "
        f"energy {errors.energy_mev_per_atom:.1f} meV/atom"
    )
    return [reached, *lines]


def turns_table(rows: Sequence[TurnRow]) -> RichTable:
    """Return what every turn explored, labelled and used, one per line."""
    numbers = ("stage", "accurate", "cand.", "failed", "labels", "core h", "wall")
    names = ("stage", "T / K", *numbers[1:])
    table = _table("turn", *names, right=("turn", *numbers))
    for row in rows:
        table.add_row(str(row.turn), str(row.stage + 1), *_exploration_cells(row))
    return table


def errors_table(rows: Sequence[TurnRow]) -> RichTable:
    """Return the force errors of every turn, one per line."""
    names = ("train", "valid.", "new", "RMS", "rank")
    table = _table("turn", *names, right=("turn", *names))
    for row in rows:
        table.add_row(str(row.turn), *_error_cells(row))
    return table


def jobs_table(rows: Sequence[JobRow]) -> RenderableType:
    """Return the table of job states, one job per line, the same for every engine; then errors."""
    names = ("role", "turn", "state", "worker", "queue id", "tries", "job")
    table = _table("id", *names, right=("turn", "tries"), wide=("worker", "job"))
    for row in rows:
        table.add_row(
            row.job_id[:SHORT_ID],
            row.role,
            "" if row.iteration is None else str(row.iteration),
            f"[{_JOB_COLOURS.get(row.state, 'default')}]{row.state.value}[/]",
            row.worker or "",
            row.queue_id or "",
            str(row.tries),
            escape(row.name),
        )
    errors = [Text(f"{row.job_id[:SHORT_ID]}  {row.error}") for row in rows if row.error]
    return Group(table, *([Text("errors", style="bold"), *errors] if errors else []))


def frames_table(frames: Table) -> RichTable:
    """Return judged frames, one per line."""
    names = ("T / K", "traj.", "step", "max_devi_f", "verdict", "label", "reason", "frame")
    table = _table(
        "turn", *names, right=("T / K", "traj.", "step", "max_devi_f"), wide=("label", "reason")
    )
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
    return [
        _range(row.temperatures),
        *(f"{fraction:.1%}" for fraction in row.fractions),
        f"{row.n_accepted}/{row.n_requested}",
        _hours(row.core_hours),
        "" if row.wall_seconds is None else _clock(row.wall_seconds),
    ]


def _error_cells(row: TurnRow) -> list[str]:
    errors = (row.train_rmse, row.validation_rmse, row.new_label_rmse, row.new_label_rms)
    rank = "" if row.rank_correlation is None else f"{row.rank_correlation:.2f}"
    return [*("" if error is None else f"{error:.0f}" for error in errors), rank]


def _rejected(row: TurnRow) -> str:
    fates = row.rejected | ({"late": row.n_late} if row.n_late else {})
    return ", ".join(f"{count} {fate}" for fate, count in fates.items())


def _reasons(turns: Sequence[TurnRow]) -> list[Text]:
    lines = []
    for row in turns:
        lines.append(Text.assemble((f"turn {row.turn}: {row.action}", "bold"), f", {row.reason}"))
        if rejected := _rejected(row):
            lines.append(Text(f"  labels not accepted: {rejected}", style="yellow"))
        lines += [Text(f"  ended early: {x.words}", style="yellow") for x in row.unfinished]
        lines += [Text(f"  lost: {failure}", style="yellow") for failure in row.failures]
        lines += [Text(f"  note: {note}", style="yellow") for note in row.notes]
    return lines


def _running(job: JobRow) -> str:
    since = f" for {_since(job.started)}" if job.started else ""
    where = f" on {job.worker}" if job.worker else ""
    return f"{job.name}{since}{where}"


def _since(started: datetime) -> str:
    return _clock((datetime.now(UTC) - started).total_seconds())


def _clock(seconds: float) -> str:
    """Return a time as hours:minutes:seconds; days would need a word more."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours < 1000 else f"{hours:.0f}"


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


def _table(*names: str, right: Iterable[str], wide: Iterable[str] = ()) -> RichTable:
    """Return an empty table; only the `wide` columns are broken where the terminal is narrow."""
    table = RichTable(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    numbers, broken = set(right), set(wide)
    for name in names:
        table.add_column(
            name,
            justify="right" if name in numbers else "left",
            no_wrap=name not in broken,
            overflow="fold",
        )
    return table
