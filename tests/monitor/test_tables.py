"""What the terminal shows, in its 80 columns."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from ionloop.monitor import tables
from ionloop.monitor.rows import JobsOverview, RunRow, RunStatus, Standing, TurnRow
from ionloop.schemas.job import JobRow, JobState
from ionloop.schemas.learning import Learning, Limit
from ionloop.schemas.potential import ForceErrors
from ionloop.schemas.run import RunState, SummaryDoc, ValidationDoc
from ionloop.schemas.selection import VerdictCounts

LONG = "Li10GeP2S12_with_a_name_that_somebody_found_fitting.second-attempt_of_november"
DAYS = 9 * 24 * 3600 + 61


def turn(number: int, **changes: object) -> TurnRow:
    values = {
        "turn": number,
        "stage": 9,
        "temperatures": [300.0, 1250.0],
        "counts": VerdictCounts(accurate=123_456, candidate=0, failed=0, skipped=0),
        "n_requested": 12_345,
        "n_accepted": 12_344,
        "rejected": {"outlier": 1},
        "n_training_frames": 100_000,
        "train_rmse": 1234.0,
        "validation_rmse": 1234.0,
        "new_label_rmse": 1234.0,
        "new_label_rms": 12_345.0,
        "rank_correlation": -0.71,
        "core_hours": 123_456.78,
        "wall_seconds": DAYS,
        "action": "repeat the stage",
        "reason": "the accurate fraction is below the threshold",
        "failures": [],
    }
    return TurnRow(**values | changes)


ENDED = {
    "converged": True,
    "reason": "the accurate fraction was reached",
    "n_turns": 1,
    "n_labels": 110,
    "n_accepted": 110,
    "accurate_fractions": [0.97],
    "counts": [],
    "core_hours": 0.4,
    "potential": None,
}


def force_errors(error: float, n_frames: int) -> ForceErrors:
    return ForceErrors(
        n_frames=n_frames,
        energy_mev_per_atom=1.0,
        force_mev_per_angstrom=error,
        force_rms_mev_per_angstrom=800.0,
    )


def row(run: str = LONG) -> RunRow:
    return RunRow(
        run=run,
        started=datetime(2026, 11, 21, 12, 30, tzinfo=UTC),
        host="a-host-with-a-name-of-some-length.cluster.example.org",
        standing=Standing(state=RunState.INTERRUPTED, sentence="nobody runs it"),
        n_turns=100,
        n_labels=123_456,
        n_accepted=123_455,
        accurate_fraction=1.0,
        core_hours=123_456.78,
    )


def printed(shown: object, width: int = 80) -> list[str]:
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=False)
    console.print(shown)
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return lines


def test_all_runs_fit_80_columns():
    lines = printed(tables.runs_table([row(), row("lgps")]))
    text = "\n".join(lines)
    assert "…" not in text
    (short,) = [line for line in lines if line.startswith("lgps")]
    assert short.split() == [
        *("lgps", "2026-11-21", "12:30", "interrupted", "100", "123455/123456", "100.0%", "123457")
    ]
    # A long name goes on in the next line.
    first = next(i for i, line in enumerate(lines) if line.startswith("Li10"))
    assert "".join(line.split(" ")[0] for line in lines[first:]).startswith(LONG)


def test_one_run_fits_80_columns():
    status = RunStatus(
        **dict(row()), turns=[turn(i) for i in range(10)], jobs=JobsOverview(counts={})
    )
    lines = printed(tables.run_view(status))
    assert "…" not in "\n".join(lines)
    cells = [line.split() for line in lines]
    assert (
        cells.count(
            [
                *(
                    "9",
                    "10",
                    "300-1250",
                    "100.0%",
                    "0.0%",
                    "0.0%",
                    "12344/12345",
                    "123457",
                    "216:01:01",
                )
            ]
        )
        == 1
    )
    assert ["9", "1234", "1234", "1234", "12345", "-0.71"] in cells
    assert "labels not accepted: 1 outlier" in "\n".join(lines)


def test_a_turn_says_what_limits_its_models():
    known = Learning(limit=Limit.DATA, ratio=1.6, uncertainty=0.1, n_held_back=16)
    unknown = Learning(limit=Limit.UNKNOWN, n_held_back=3)
    rows = [turn(0, learning=known), turn(1, learning=unknown)]
    words = [line.split() for line in printed(tables.errors_table(rows))]
    assert [line[-1] for line in words[1:]] == ["data", "-0.71"]
    status = RunStatus(**dict(row()), turns=rows[:1], jobs=JobsOverview(counts={}))
    text = " ".join(" ".join(printed(tables.run_view(status))).split())
    assert "turn 0: limited by data: the force error on the 16 held-back frames is 1.60" in text
    last = RunStatus(**dict(row()), turns=rows, jobs=JobsOverview(counts={}))
    text = " ".join(" ".join(printed(tables.run_view(last))).split())
    assert "turn 1: not known what limits it: 3 held-back frame(s) are too few" in text


def test_a_summary_says_what_limits_the_potential_where_it_can_be_told():
    def lines(**errors: list[ForceErrors]) -> list[str]:
        end = SummaryDoc(**ENDED, **errors)
        return [line for line in tables.summary_lines("lgps", end) if "limit" in line]

    (line,) = lines(train_errors=[force_errors(90, 100)], validation_errors=[force_errors(91, 100)])
    assert line.startswith("the potential is limited by training: ")
    assert lines(train_errors=[force_errors(90, 100)]) == []


@pytest.mark.parametrize(("error", "warned"), [(60.0, False), (95.0, False), (150.0, True)])
def test_a_summary_warns_of_a_teacher_that_errs_more_than_its_student(error: float, warned: bool):
    validation = ValidationDoc(
        errors=force_errors(90, 10),
        teacher=force_errors(error, 10),
        temperatures=[450],
        n_requested=10,
        n_accepted=10,
    )
    end = SummaryDoc(**ENDED, validation=validation)
    *_, first, last = tables.summary_lines("lgps", end)
    teacher = last if not warned else first
    assert teacher.startswith(f"its teacher on the same frames: force RMSE {error:.0f} meV/Å")
    assert ("the teacher's force error is 1.7 times that of its student" in last) is warned


def test_a_run_says_what_it_has_used():
    status = RunStatus(**dict(row()), turns=[turn(0)], jobs=JobsOverview(counts={}))
    assert "after 100 turn(s): 123455 of 123456 labels accepted, 123457 core hours" in printed(
        tables.run_view(status), 200
    )


@pytest.mark.parametrize("error", ["", "label failed: ProgramError: " + 20 * "a-long-word "])
def test_jobs_fit_80_columns(error):
    job = JobRow(
        job_id="8e33a966-aa66-7ada-af78-43a09c40c3e2-1",
        name="label 50 frames",
        role="explore",
        state=JobState.COMPLETED,
        iteration=10,
        worker="worker-of-some-length",
        queue_id="12345678",
        tries=12,
        error=error,
    )
    text = "\n".join(printed(tables.jobs_table([job])))
    assert "…" not in text
    assert "12345678" in text
    assert error.strip() in " ".join(text.split())
