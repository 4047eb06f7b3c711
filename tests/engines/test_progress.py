from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from ionloop.engines.local.progress import (
    Pace,
    RichProgress,
    Running,
    Snapshot,
    count_by_role,
    summary_line,
    table,
)
from ionloop.schemas.job import JobRow, JobState

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SNAPSHOT = Snapshot(
    run="lgps",
    counts={"train": {"completed": 2, "running": 1, "waiting": 1}, "label": {"failed": 3}},
    running=(Running("train-2", "train", 1, START),),
    turn=2,
    accurate=(1, 0.873),
)


@pytest.fixture
def training(tmp_path: Path) -> Running:
    """A training of 1,000 steps, none of them done."""
    (tmp_path / "input.json").write_text(json.dumps({"training": {"numb_steps": 1000}}))
    (tmp_path / "lcurve.out").write_text("# step\n")
    return Running("train-2", "train", 1, START, (tmp_path,))


def advance(job: Running, step: int) -> None:
    with (job.folders[0] / "lcurve.out").open("a") as curve:
        curve.write(f" {step} 0.1\n")


def test_the_line_says_turn_accuracy_and_jobs_by_role() -> None:
    assert summary_line(SNAPSHOT) == (
        "turn 2; turn 1 was 87.3% accurate; done so far: train 2 of 4, label 0 of 3 (3 failed); "
        "running: train-2"
    )


def test_before_the_loop_there_is_no_turn() -> None:
    begun = Snapshot(run="lgps", counts={"label": {"running": 1}}, running=())
    assert summary_line(begun) == "done so far: label 0 of 1; nothing runs"


def test_the_table_shows_for_how_long_a_job_runs() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=90)
    console.print(table(SNAPSHOT, START + timedelta(seconds=75)))
    lines = screen.getvalue().splitlines()
    assert lines[0].strip() == "run lgps; turn 2; turn 1 was 87.3% accurate"
    row = next(line for line in lines if "train-2" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "train", "2 of 4", "1", "1", "", "train-2: 0:01:15",
    ]  # fmt: skip


def test_what_runs_tells_its_step_and_the_time_left(training: Running) -> None:
    pace = Pace()
    assert pace.describe(training, START) == "training step 0 of 1000"
    advance(training, 200)
    # The pace counts from what was seen first, not from a checkpoint that was found.
    later = START + timedelta(seconds=60)
    assert pace.describe(training, later) == "training step 200 of 1000, 0:04:00 left"
    assert Pace().describe(training, later) == "training step 200 of 1000"


def test_plain_lines_without_a_terminal_and_only_for_changes() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=200)
    progress = RichProgress(console)
    progress.update(SNAPSHOT)
    progress.update(SNAPSHOT)
    progress.close()
    (line,) = screen.getvalue().splitlines()
    assert "  turn 2; turn 1 was 87.3% accurate; done so far: train 2 of 4" in line


def test_what_runs_on_has_a_line_now_and_then(
    training: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=200)
    progress = RichProgress(console)
    snapshot = Snapshot("lgps", {"train": {"running": 1}}, (training,), turn=0)
    progress.update(snapshot)
    advance(training, 300)
    progress.update(snapshot)  # too soon
    monkeypatch.setattr("ionloop.engines.local.progress.LINE_EVERY", 0.0)
    progress.update(snapshot)
    first, second = screen.getvalue().splitlines()
    assert "train-2 (training step 0 of 1000)" in first
    assert "train-2 (training step 300 of 1000" in second


def test_live_table_on_a_terminal() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=90, force_terminal=True)
    progress = RichProgress(console)
    progress.update(SNAPSHOT)
    progress.update(SNAPSHOT)
    progress.close()
    progress.close()
    assert "train-2" in screen.getvalue()


def test_jobs_in_a_queue_and_paused_jobs_are_shown_as_waiting() -> None:
    states = {"completed": 1, "queued": 2, "paused": 3, "waiting": 4, "skipped": 5}
    rows = [
        JobRow(job_id=f"{state}-{i}", name="label", role="label", state=JobState(state))
        for state, n in states.items()
        for i in range(n)
    ]
    screen = io.StringIO()
    console = Console(file=screen, width=90)
    console.print(table(Snapshot("lgps", count_by_role(rows), running=()), START))
    row = next(line for line in screen.getvalue().splitlines() if "label" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["label", "1 of 15", "", "9", "5", ""]
