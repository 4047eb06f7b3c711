"""The engine for jobflow-remote, on a real Slurm and a real MongoDB server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import remote_jobs  # noqa: E402
from remote_project import RemoteProject, marks, remote_project, table  # noqa: E402

pytestmark = [*marks, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[RemoteProject]:
    with remote_project(tmp_path, HERE) as made:
        yield made


def test_turns_on_three_workers_every_job_once(project: RemoteProject) -> None:
    project.engine.submit(remote_jobs.loop(project.notes, 2), "loop", table())
    project.start_all()
    rows = project.wait("loop")

    assert {row.state for row in rows} == {"completed"}
    assert set(remote_jobs.starts(project.notes).values()) == {1}
    partitions = {note["name"]: note["partition"] for note in remote_jobs.notes(project.notes)}
    assert {name.split()[0]: where for name, where in partitions.items()} == {
        "spread": None,
        "collect": None,
        "label": "main",
        "train": "gpu",
    }
