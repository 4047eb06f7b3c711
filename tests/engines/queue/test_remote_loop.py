"""The whole loop with real programs through jobflow-remote ends as the local run does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from books import place_of
from remote_project import marks, remote_project, table
from test_fireworks_loop import compare

from ionloop.runfile.reading import load
from ionloop.schemas.job import JobState

TOY = Path(__file__).parents[2] / "toy"

pytestmark = marks


def test_loop_through_jobflow_remote_ends_as_the_local_run(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue").mkdir()
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "queue" / "log"))
    with remote_project(tmp_path / "queue", TOY) as project:
        queue = place_of(project.folder, project.url)
        queue.write(store=project.url)
        placement = table(explore={"worker": "gpu", "queue": "gpu"})
        project.engine.submit(load(project.folder / "run.yaml").flow(), "toy", placement)
        project.start_all()
        rows = project.wait("toy", 1800)
        compare(local, queue)
        check_rows(rows)


def check_rows(rows: list[Any]) -> None:
    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert {row.tries for row in rows} == {1}
    assert {row.worker for row in rows} == {"local_shell", "cpu", "gpu"}
    assert all(row.queue_id for row in rows)
