"""The engine for jobflow-remote, on a real Slurm and a real MongoDB server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ionloop.engines.base import EngineError
from ionloop.engines.remote.engine import LOST, RemoteEngine
from ionloop.engines.remote.project import jobstore_block, native_place
from ionloop.schemas.job import JobState
from ionloop.stores.connect import open_store

sys.path.insert(0, str(Path(__file__).parent))

import remote_jobs as jobs
from remote_project import RemoteProject, in_state, marks, remote_project, table

HERE = Path(__file__).parent

pytestmark = marks


@pytest.fixture
def project(tmp_path: Path) -> Iterator[RemoteProject]:
    with remote_project(tmp_path, HERE) as made:
        yield made


def test_turns_on_three_workers_with_two_runners_every_job_once(project: RemoteProject) -> None:
    project.engine.submit(jobs.loop(project.notes, 1), "loop", table())
    project.start_all()
    project.start()  # by mistake
    rows = project.wait("loop")

    assert Counter(row.state for row in rows) == {JobState.COMPLETED: 11}
    assert set(jobs.starts(project.notes).values()) == {1}
    partitions = {note["name"]: note["partition"] for note in jobs.notes(project.notes)}
    assert {name.split()[0]: where for name, where in partitions.items()} == {
        "spread": None,
        "collect": None,
        "label": "main",
        "train": "gpu",
    }
    with open_store(project.url) as store:
        first = store.query_one({"name": "spread 0", "index": 1})
        assert store.get_output(first["uuid"], load=True) == {"sum": 3}
        train = store.query_one({"name": "train 1"}, load=True)
        assert train["output"]["packed"]["numbers"] == [2] * 10


def test_the_table_of_states(project: RemoteProject) -> None:
    project.engine.submit(jobs.chain(project.notes), "chain", table())
    label, train = project.engine.jobs("chain")
    assert (label.name, label.role, label.worker, label.state) == (
        "label",
        "label",
        "cpu",
        JobState.WAITING,
    )
    assert (train.worker, train.state, train.tries, train.queue_id) == ("gpu", "waiting", 0, None)
    assert project.engine.jobs("another") == []

    project.start()
    label, train = project.wait("chain")
    assert (label.state, label.tries, label.error) == ("completed", 1, None)
    assert label.queue_id == jobs.notes(project.notes)[0]["queue_id"]
    assert label.started < label.ended < train.started < train.ended


def test_many_short_jobs_in_one_allocation(project: RemoteProject) -> None:
    project.engine.submit(
        jobs.many(project.notes, 12, "label"), "many", table(label={"worker": "batch"})
    )
    project.start()
    rows = project.wait("many")

    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert set(jobs.starts(project.notes).values()) == {1}
    assert len({note["queue_id"] for note in jobs.notes(project.notes)}) == 1
    assert {row.queue_id for row in rows} == {
        note["queue_id"] for note in jobs.notes(project.notes)
    }


def test_a_job_that_was_taken_out_of_the_queue_is_retried(project: RemoteProject) -> None:
    project.engine.submit(jobs.chain(project.notes, seconds=60), "chain", table())
    project.start()
    project.wait_for_notes(1)
    scancel(project.rows("chain")["label"].queue_id)
    project.wait("chain", until=in_state("failed"))

    rows = project.rows("chain")
    assert "likely killed" in rows["label"].error
    assert rows["train"].state is JobState.SKIPPED
    assert project.engine.retry("chain", role="train") == 0
    assert project.engine.retry("chain", error="no such text") == 0
    project.shorten("label")
    assert project.engine.retry("chain", role="label", error="killed") == 1
    label, train = project.wait("chain")
    assert (label.state, train.state) == (JobState.COMPLETED, JobState.COMPLETED)
    assert (label.tries, train.tries) == (2, 1)
    assert jobs.starts(project.notes) == {"label": 2, "train": 1}


def test_a_batch_that_was_taken_out_of_the_queue_is_retried(project: RemoteProject) -> None:
    # A batch of one job: one of more could take up the next before it is ended itself.
    workers = project.document()["workers"]
    workers["batch"]["batch"]["max_jobs_per_batch"] = 1
    project.write(workers=workers)
    flow = jobs.many(project.notes, 2, "label", seconds=30)
    project.engine.submit(flow, "many", table(label={"worker": "batch"}))
    project.start()
    project.wait_for_notes(1)
    (first,) = jobs.notes(project.notes)
    scancel(first["queue_id"])
    project.wait("many", until=in_state("failed"))

    # Either the job is ended first, and its batch still notes that, or both at once.
    assert any(text in project.rows("many")[first["name"]].error for text in LOST)
    project.shorten("label")
    assert project.engine.recover("many") == 1
    assert project.engine.recover("many") == 0
    assert {row.state for row in project.wait("many")} == {JobState.COMPLETED}
    assert sum(jobs.starts(project.notes).values()) == 3


def test_a_retry_takes_what_failed_because_of_it(project: RemoteProject, tmp_path: Path) -> None:
    needed = tmp_path / "needed"
    project.engine.submit(jobs.floor(project.notes, needed), "floor", table())
    project.start()
    project.wait("floor", until=lambda rows: rows[1].error is not None)
    rows = project.rows("floor")
    assert rows["bad"].error == "FileNotFoundError: no needed here"
    assert rows["both"].error == "ValueError: 1 of 2 are missing"
    assert "Could not resolve reference" in rows["train"].error

    needed.touch()
    # The job that passes the sum on, and the training, which had to do without.
    assert project.engine.retry("floor") == 4
    rows = {row.name: row for row in project.wait("floor")}
    assert {row.state for row in rows.values()} == {JobState.COMPLETED}
    tries = {name: row.tries for name, row in rows.items()}
    assert tries == {"account": 1, "good": 1, "bad": 2, "both": 2, "store_inputs": 2, "train": 2}
    assert jobs.starts(project.notes) == {"account": 1, "good": 1, "bad": 2, "both": 2, "train": 1}
    with open_store(project.url) as store:
        # Two traces: the folder of the first try was kept.
        assert store.query_one({"name": "train"})["output"]["number"] == 3


def test_runners_killed_and_started_again(project: RemoteProject) -> None:
    project.engine.submit(jobs.many(project.notes, 4, "label", seconds=5), "many", table())
    project.start_all()
    project.wait("many", until=in_state("running"))
    project.kill()
    project.engine.unlock("many", older_than=timedelta(0))
    project.start_all()

    assert {row.state for row in project.wait("many")} == {JobState.COMPLETED}
    assert set(jobs.starts(project.notes).values()) == {1}


def test_pause_and_proceed(project: RemoteProject) -> None:
    project.engine.submit(jobs.chain(project.notes), "chain", table())
    assert project.engine.pause("chain") == 2
    project.start()
    assert {row.state for row in project.wait("chain")} == {JobState.PAUSED}
    assert project.engine.proceed("chain") == 2
    assert {row.state for row in project.wait("chain")} == {JobState.COMPLETED}
    with pytest.raises(EngineError, match="choose another name"):
        project.engine.submit(jobs.chain(project.notes), "chain", table())


def test_cancel_takes_jobs_out_of_the_queue(project: RemoteProject) -> None:
    project.engine.submit(jobs.chain(project.notes, seconds=60), "chain", table())
    project.start()
    project.wait("chain", until=in_state("running"))
    queue_id = project.rows("chain")["label"].queue_id

    assert project.engine.cancel("chain") == 2
    assert {row.state for row in project.engine.jobs("chain")} == {JobState.CANCELLED}
    assert slurm_state(queue_id) in {"CANCELLED", "COMPLETING"}


def test_other_places_for_what_has_not_begun_and_all_that_follows(project: RemoteProject) -> None:
    project.engine.submit(jobs.loop(project.notes, 1), "loop", table())
    moved = table(train={"worker": "cpu", "queue": "main", "processes": 1})
    assert project.engine.place("loop", moved) == 1
    assert project.engine.place("loop", moved) == 0
    project.start()
    project.wait("loop")

    notes = {note["name"]: note["partition"] for note in jobs.notes(project.notes)}
    assert {notes["train 0"], notes["train 1"], notes["label 0"]} == {"main"}
    with pytest.raises(EngineError, match="no 'tpu'; it has: batch, cpu, gpu, local_shell"):
        project.engine.place("loop", table(train={"worker": "tpu"}))


def test_what_stands_against_a_run(project: RemoteProject, tmp_path: Path) -> None:
    assert project.engine.check(table()) == []
    (fault,) = project.engine.check(table(label={"worker": "tpu"}))
    assert fault == (
        "resources.label.worker: project 'test' of jobflow-remote has no 'tpu'; "
        "it has: batch, cpu, gpu, local_shell"
    )
    (fault,) = project.engine.check(table(train={"worker": "gpu", "extra": {"project": "x"}}))
    assert fault == (
        "resources.train: SlurmIO does not know project (worker 'gpu' of project 'test')"
    )
    (fault,) = RemoteEngine(project.url, "tset").check(table())
    assert "tset does not exist" in fault
    assert "test" in fault
    (fault,) = RemoteEngine(str(tmp_path / "run.db"), "test").check(table())
    assert "is a file" in fault


def test_a_jobstore_that_is_not_the_store_of_the_run(project: RemoteProject) -> None:
    (fault,) = RemoteEngine(f"{project.url}_other", "test").check(table())
    assert "not in" in fault
    assert f"uri: {project.url}_other" in fault
    document = project.document()
    workers = document["workers"]
    project.write(workers=workers | {"local_shell": {**workers["cpu"], "execution_cmd": None}})
    (fault,) = project.engine.check(table())
    assert "needs the line: execution_cmd: python -m ionloop.engines.remote.job {}" in fault
    del document["jobstore"]["additional_stores"]["labels"]
    project.write(jobstore=document["jobstore"])
    (fault,) = project.engine.check(table())
    assert "no additional store 'labels'" in fault


def test_a_queue_in_the_collections_of_the_store(project: RemoteProject) -> None:
    queue = project.document()["queue"]
    project.write(queue={"store": queue["store"] | {"collection_name": "jobs"}})
    (fault,) = project.engine.check(table())
    assert "keeps its queue in jobs of the store's own database" in fault


def test_the_project_file_of_the_documentation() -> None:
    from jobflow_remote.config.base import Project

    page = (HERE.parents[2] / "docs" / "jobflow_remote.md").read_text()
    (text,) = re.findall(r"```yaml\n(name: .*?)```", page, re.DOTALL)
    document = YAML(typ="safe", pure=True).load(text)
    project = Project.model_validate(document)
    url = "mongodb://me:secret@db.example.org/ionloop?tls=true"
    assert document["jobstore"] == jobstore_block(url)
    asked = {"queue_name": "gpu", "nodes": 2, "processes": 3, "time_limit": 3600, "qos": "x"}
    assert native_place(project, {"worker": "gpu", "resources": asked | {"gres": "gpu:1"}}) == {
        "worker": "gpu",
        "resources": {
            "partition": "gpu",
            "nodes": 2,
            "ntasks_per_node": 2,
            "time": "0-1:0:0",
            "qos": "x",
            "gres": "gpu:1",
        },
        "exec_config": {"modules": None},
        "priority": 1,
    }
    assert native_place(project, {"worker": "books", "resources": asked})["resources"] == {}


def scancel(queue_id: str) -> None:
    subprocess.run(["scancel", queue_id], check=True)


def slurm_state(queue_id: str) -> str:
    command = ["squeue", "-t", "all", "-h", "-o", "%T", "-j", queue_id]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
