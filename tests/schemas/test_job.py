"""Rows of the table of states."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ionloop.schemas.job import JobRow, JobState

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "started",
    [
        NOON,
        NOON.replace(tzinfo=None),
        "2026-03-01T12:00:00",
        NOON.astimezone(timezone(timedelta(hours=2))),
    ],
)
def test_moments_without_a_zone_are_in_utc(started: datetime | str) -> None:
    row = JobRow(job_id="1", name="train", role="train", state=JobState.RUNNING, started=started)
    assert row.started == NOON
    assert row.ended is None
