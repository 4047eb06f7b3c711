from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from ionloop.runners.progress import RichProgress, Running, Snapshot, summary_line, table

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SNAPSHOT = Snapshot(
    run="lgps",
    counts={"train": {"completed": 2, "running": 1, "waiting": 1}, "label": {"failed": 3}},
    running=(Running("train-2", "train", 1, START),),
)


def test_summary_line_counts_by_role() -> None:
    assert summary_line(SNAPSHOT) == "train 2/4  label 0/3 (3 failed)  running: train-2"


def test_table_shows_for_how_long_a_job_runs() -> None:
    console = Console(file=io.StringIO(), width=90)
    console.print(table(SNAPSHOT, START + timedelta(seconds=75)))
    row = next(line for line in console.file.getvalue().splitlines() if "train-2" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "train", "2/4", "1", "1", "", "train-2 75 s",
    ]  # fmt: skip


def test_plain_lines_without_a_terminal_and_only_for_changes() -> None:
    console = Console(file=io.StringIO(), width=200)
    progress = RichProgress(console)
    progress.update(SNAPSHOT)
    progress.update(SNAPSHOT)
    progress.close()
    (line,) = console.file.getvalue().splitlines()
    assert line.endswith(summary_line(SNAPSHOT))


def test_live_table_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=90, force_terminal=True)
    progress = RichProgress(console)
    progress.update(SNAPSHOT)
    progress.update(SNAPSHOT)
    progress.close()
    progress.close()
    assert "train-2" in console.file.getvalue()
