"""What the terminal shows of runs: tables and sentences."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Literal

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from ionloop.monitor.rows import RunRow, RunStatus, Standing, TurnRow
from ionloop.schemas.job import JobRow, clock
from ionloop.schemas.learning import learning
from ionloop.schemas.potential import ForceErrors
from ionloop.schemas.run import RunState, SummaryDoc, ValidationDoc
from ionloop.schemas.table import Table

_COLOURS = {
    **dict.fromkeys(("running", "queued"), "cyan"),
    **dict.fromkeys(("interrupted", "paused"), "yellow"),
    "completed": "green",
    "failed": "red",
    "cancelled": "dim",
}
"""Colours of the states of runs and jobs."""

ERRORS_LEGEND = (
    "force errors in meV/Å: of training and validation frames, of new labels before training on "
    "them; RMS: of the new labels' own forces; rank: of their deviations and errors; limited by: "
    "what would have to be better or more, the training or the labels"
)

SHORT_ID = 10
"""Characters of an id that a table shows; `ionloop show` finds things by them."""
WORSE_TEACHER = 1.1
"""Force error of a teacher over that of its student above which the summary warns."""


def runs_table(rows: Sequence[RunRow]) -> RichTable:
    """Return the runs, one per line."""
    numbers = ("turns", "labels", "accurate", "core h")
    table = _table("run", "started", "state", *numbers, right=numbers, wide=("run",))
    for row in rows:
        state, fraction = row.standing.state, row.accurate_fraction
        table.add_row(
            escape(row.run),
            f"{row.started:%Y-%m-%d %H:%M}" if row.started else "",
            f"[{_COLOURS[state]}]{state.value}[/]",
            str(row.n_turns),
            f"{row.n_accepted}/{row.n_labels}",
            "" if fraction is None else f"{fraction:.1%}",
            _hours(row.core_hours),
        )
    table.caption = "labels: accepted/requested, those of finished turns until the run has ended"
    return table


def run_view(status: RunStatus) -> RenderableType:
    """Return one run: where it stands, turn by turn, its results, and its jobs."""
    turns, overview = status.turns, status.jobs
    parts: list[RenderableType] = [_standing_text(status.run, status.standing)]
    if turns:
        parts += [Text(), turns_table(turns)]
        parts += [Text(), errors_table(turns), Text(ERRORS_LEGEND, style="dim italic")]
        if turns[-1].learning:
            parts.append(Text(f"turn {turns[-1].turn}: {turns[-1].learning.sentence}"))
        parts += [Text(), *(line for row in turns for line in _turn_lines(row))]
    ended = status.standing.state is RunState.COMPLETED
    when = "in all" if ended else f"after {status.n_turns} turn(s)"
    labels = f"{status.n_accepted} of {status.n_labels} labels accepted"
    parts += [Text(), Text(f"{when}: {labels}, {_hours(status.core_hours)} core hours")]
    if status.summary is not None:
        if status.summary.distillation is not None:
            parts.append(Text(status.summary.distillation.description))
        if status.summary.validation is not None:
            parts += [Text(line) for line in _validation_lines(status.summary.validation)]
        parts += [Text(f"note: {note}", style="yellow") for note in status.summary.notes]
    counts = ", ".join(f"{count} {state}" for state, count in overview.by_state.items())
    parts += [Text(), Text(f"jobs: {counts or 'none'}")]
    parts += [Text(f"  running: {_running(job)}", style="cyan") for job in overview.running]
    parts += [_failed_text(job) for job in overview.failed]
    return Group(*parts)


def turns_table(rows: Sequence[TurnRow]) -> RichTable:
    """Return what every turn explored, labelled and used, one per line."""
    numbers = ("stage", "accurate", "cand.", "failed", "labels", "core h", "wall")
    names = ("stage", "T / K", *numbers[1:])
    table = _table("turn", *names, right=("turn", *numbers))
    for row in rows:
        low, high = min(row.temperatures), max(row.temperatures)
        table.add_row(
            str(row.turn),
            str(row.stage + 1),
            f"{low:g}" if low == high else f"{low:g}-{high:g}",
            *(f"{fraction:.1%}" for fraction in row.fractions),
            f"{row.n_accepted}/{row.n_requested}",
            _hours(row.core_hours),
            "" if row.wall_seconds is None else clock(row.wall_seconds),
        )
    return table


def errors_table(rows: Sequence[TurnRow]) -> RichTable:
    """Return the force errors of every turn, one per line."""
    names = ("train", "valid.", "new", "RMS", "rank")
    table = _table("turn", *names, "limited by", right=("turn", *names))
    for row in rows:
        errors = (row.train_rmse, row.validation_rmse, row.new_label_rmse, row.new_label_rms)
        cells = ["" if error is None else f"{error:.0f}" for error in errors]
        rank = "" if row.rank_correlation is None else f"{row.rank_correlation:.2f}"
        table.add_row(str(row.turn), *cells, rank, row.learning.limit.word if row.learning else "")
    return table


def jobs_table(rows: Sequence[JobRow]) -> RenderableType:
    """Return the jobs of a run, one per line, the same for every engine; then their errors."""
    names = ("role", "turn", "state", "worker", "queue id", "tries", "job")
    table = _table("id", *names, right=("turn", "tries"), wide=("worker", "job"))
    for row in rows:
        table.add_row(
            row.job_id[:SHORT_ID],
            row.role,
            "" if row.iteration is None else str(row.iteration),
            f"[{_COLOURS.get(row.state, 'default')}]{row.state.value}[/]",
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
    table = _table("turn", *names, right=names[:4], wide=("label", "reason"))
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


def summary_lines(run: str, end: SummaryDoc) -> list[str]:
    """Return what a run has reached, a sentence each.

    Parameters
    ----------
    run
        Id of the run.
    end
        What it ended with.
    """
    fractions = " → ".join(f"{fraction:.3f}" for fraction in end.accurate_fractions)
    how = "converged" if end.converged else "not converged"
    training = [f"on the training frames: {_errors(each)}" for each in end.train_errors[:1]]
    # What a teacher labelled is among the training frames, and not among those held back.
    learned = learning(end.train_errors, [] if end.distillation else end.validation_errors)
    return [
        f"run {run}: {how} after {end.n_turns} turns: {end.reason}",
        f"accurate fraction of all frames by turn: {fractions}",
        f"labels: {end.n_labels} requested, {end.n_accepted} accepted",
        f"core hours: {end.core_hours:.2f}",
        *training,
        *([f"the potential is {learned.sentence}"] if learned.ratio else []),
        *([end.distillation.description] if end.distillation else []),
        *(_validation_lines(end.validation) if end.validation else []),
        *(f"ended early in the last turn: {each.description}" for each in end.unfinished),
        *(f"note: {note}" for note in end.notes),
    ]


def _validation_lines(validation: ValidationDoc) -> list[str]:
    temperatures = ", ".join(f"{t:g}" for t in validation.temperatures)
    lines = [
        f"on unseen frames at {temperatures} K{validation.which}: {_errors(validation.errors)}"
    ]
    if validation.teacher:
        lines += _teacher_lines(validation, validation.teacher)
    return lines


def _teacher_lines(validation: ValidationDoc, teacher: ForceErrors) -> list[str]:
    """Return the errors of the teacher, and a warning if it errs clearly more."""
    lines = [f"its teacher on the same frames: {_errors(teacher)}"]
    ratio = teacher.force_mev_per_angstrom / validation.errors.force_mev_per_angstrom
    if ratio > WORSE_TEACHER:
        lines.append(
            f"note: the teacher's force error is {ratio:.1f} times that of its student, which it "
            "may have held back: fine-tune for longer or from a better base (train.steps, "
            "train.base), or train on the labels alone (without production.teacher)"
        )
    return lines


def _errors(errors: ForceErrors) -> str:
    """Return the errors as part of a sentence, the force error beside the forces' own size."""
    force, size = errors.force_mev_per_angstrom, errors.force_rms_mev_per_angstrom
    return (
        f"force RMSE {force:.0f} meV/Å ({force / size:.0%} of the forces' RMS, {size:.0f} meV/Å), "
        f"energy RMSE {errors.energy_mev_per_atom:.1f} meV/atom, {errors.n_frames} frames"
    )


def _standing_text(run: str, standing: Standing) -> Text:
    state = standing.state
    text = Text.assemble((run, "bold"), ": ", (state.value, _COLOURS[state]), ", ")
    text.append(standing.sentence)
    if standing.cure:
        text.append("\ncontinue with: ").append(standing.cure, style="bold")
    return text


def _turn_lines(row: TurnRow) -> list[Text]:
    rejected = row.rejected | ({"late": row.n_late} if row.n_late else {})
    reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.items())
    remarks = [
        *([f"labels not accepted: {reasons}"] if reasons else []),
        *(f"ended early: {each.description}" for each in row.unfinished),
        *(f"lost: {failure}" for failure in row.failures),
        *(f"note: {note}" for note in row.notes),
    ]
    decision = Text.assemble((f"turn {row.turn}: {row.action}", "bold"), f", {row.reason}")
    return [decision, *(Text(f"  {remark}", style="yellow") for remark in remarks)]


def _running(job: JobRow) -> str:
    now = datetime.now(UTC)
    since = f" for {clock((now - job.started).total_seconds())}" if job.started else ""
    where = f" on {job.worker}" if job.worker else ""
    return f"{job.name}{since}{where}"


def _failed_text(job: JobRow) -> Text:
    text = Text("  failed: ", style="red").append(job.error or job.name, style="default")
    if job.folder:
        text.append(f"\n          files in {job.folder}", style="dim")
    return text


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours < 1000 else f"{hours:.0f}"


def _table(*names: str, right: Collection[str], wide: Collection[str] = ()) -> RichTable:
    """Return an empty table; only the `wide` columns are broken where the terminal is narrow."""
    table = RichTable(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for name in names:
        justify: Literal["left", "right"] = "right" if name in right else "left"
        table.add_column(name, justify=justify, no_wrap=name not in wide, overflow="fold")
    return table
