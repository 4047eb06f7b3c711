from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import toy_jobs as toy
from jobflow import Flow, JobStore

from ionloop.engines.local.journal import Journal, JournalError
from ionloop.engines.local.progress import Snapshot
from ionloop.engines.local.runner import LocalRunner
from ionloop.stores.connect import collection, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = "a run"
pytestmark = [  # of jobflow's own runner, the reference
    pytest.mark.filterwarnings("ignore:Some jobs are not connected:UserWarning"),
    pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning"),
]


class Recorder:
    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []

    def update(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def close(self) -> None:
        pass


@pytest.fixture
def runner(tmp_path: Path) -> LocalRunner:
    return LocalRunner(store_url=str(tmp_path / "run.db"), scratch=tmp_path / "scratch", cores=2)


@pytest.fixture
def store(runner: LocalRunner) -> Iterator[JobStore]:
    opened = open_store(runner.store_url)
    yield opened
    opened.close()


@pytest.fixture
def server() -> Iterator[str]:
    from pymongo import MongoClient

    uri = os.environ.get("IONLOOP_TEST_MONGO_URI")
    if uri is None:
        pytest.skip("IONLOOP_TEST_MONGO_URI names no MongoDB server")
    name = f"runner_{uuid.uuid4().hex}"
    yield f"{uri}/{name}"
    with MongoClient(uri) as client:
        client.drop_database(name)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def states(store: JobStore) -> dict[str, str]:
    entries = Journal(collection(store, "jobs"), RUN).entries()
    return {entry.name: entry.state for entry in entries}


def document(store: JobStore, name: str) -> dict:
    return collection(store, "jobs").query_one({"run": RUN, "name": name})


def diamond(notes: Path, seconds: float = 0.0) -> Flow:
    top = toy.add(str(notes), 1, 2)
    left = toy.add(str(notes), top.output["sum"], 10, seconds)
    right = toy.add(str(notes), top.output["sum"], 20, seconds)
    bottom = toy.add(str(notes), left.output["sum"], right.output["sum"])
    return Flow([top, left, right, bottom], output=bottom.output)


def test_diamond_runs_its_sides_at_the_same_time(
    runner: LocalRunner, store: JobStore, notes: Path
) -> None:
    flow = diamond(notes, seconds=0.6)
    summary = runner.run(flow, RUN)
    times = {note["uuid"]: note for note in toy.notes(notes)}
    left, right = (times[job.uuid] for job in flow.jobs[1:3])
    assert max(left["start"], right["start"]) < min(left["end"], right["end"])
    assert times[flow.jobs[3].uuid]["start"] > max(left["end"], right["end"])
    assert store.get_output(flow.jobs[3].uuid, load=True) == {"sum": 36, "blob": [13, 23]}
    assert summary.ok
    assert summary.counts == {"completed": 4}


def test_one_core_runs_one_job_at_a_time(tmp_path: Path, notes: Path) -> None:
    runner = LocalRunner(store_url=str(tmp_path / "run.db"), scratch=tmp_path, cores=1)
    assert runner.run(diamond(notes, seconds=0.1), RUN).ok
    times = sorted((note["start"], note["end"]) for note in toy.notes(notes))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))


def test_a_job_that_asks_for_more_cores_than_there_are_gets_all(
    runner: LocalRunner, notes: Path
) -> None:
    recorder = Recorder()
    flow = diamond(notes)
    flow.update_metadata({"cores": 64, "role": "train"}, dynamic=True)
    wide = LocalRunner(
        store_url=runner.store_url, scratch=runner.scratch, cores=2, progress=recorder
    )
    assert wide.run(flow, RUN).ok
    assert {job.cores for shot in recorder.snapshots for job in shot.running} == {2}
    assert max(len(shot.running) for shot in recorder.snapshots) == 1
    assert recorder.snapshots[-1].counts == {"train": {"completed": 4}}


def test_everything_equals_run_locally(runner: LocalRunner, store: JobStore, notes: Path) -> None:
    assert runner.run(toy.everything(notes, 0.0), RUN).ok
    assert len(toy.outputs(store)) == 19
    assert toy.outputs(store) == toy.reference_outputs(notes)


@pytest.mark.integration
def test_everything_on_a_server(tmp_path: Path, notes: Path, server: str) -> None:
    runner = LocalRunner(store_url=server, scratch=tmp_path / "scratch", cores=2)
    assert runner.run(toy.everything(notes, 0.0), RUN).ok
    store = open_store(server)
    assert toy.outputs(store) == toy.reference_outputs(notes)
    store.close()


def test_loop_of_five_turns(runner: LocalRunner, store: JobStore, notes: Path) -> None:
    loop = toy.turn(str(notes), 100, 0, 5)
    after = toy.add(str(notes), loop.output["sum"], 1)
    assert runner.run(Flow([loop, after]), RUN).ok
    assert store.get_output(loop.uuid)["sum"] == 100 + 0 + 1 + 2 + 3 + 4
    assert store.get_output(after.uuid)["sum"] == 111
    assert sum(note["name"].startswith("turn") for note in toy.notes(notes)) == 6


def test_nested_replacements(runner: LocalRunner, store: JobStore, notes: Path) -> None:
    outer = toy.nested(str(notes), 3)
    after = toy.add(str(notes), outer.output["sum"], 1)
    assert runner.run(Flow([after, outer]), RUN).ok
    assert store.get_output(after.uuid)["sum"] == 8


@pytest.mark.parametrize(("kind", "child_waits"), [("detour", True), ("addition", False)])
def test_children_wait_for_a_detour_not_for_an_addition(
    runner: LocalRunner, notes: Path, kind: str, child_waits: bool
) -> None:
    parent = toy.divert(str(notes), 0.8, kind)
    child = toy.add(str(notes), parent.output, 1)
    assert runner.run(Flow([parent, child]), RUN).counts == {"completed": 3}
    times = {note["uuid"]: note for note in toy.notes(notes)}
    (spawned,) = [note for uuid, note in times.items() if uuid != child.uuid]
    assert (times[child.uuid]["start"] >= spawned["end"]) == child_waits


def test_stop_children(runner: LocalRunner, store: JobStore) -> None:
    stop = toy.stopping("stop_children")
    child = toy.tolerant([stop.output])
    grandchild = toy.count(child.output)
    other = toy.count(1, 2)
    summary = runner.run(Flow([stop, child, grandchild, other]), RUN)
    assert summary.counts == {"completed": 2, "skipped": 2}
    assert summary.ok
    assert document(store, "tolerant")["state"] == "skipped"
    assert store.get_output(other.uuid) == 2


def test_stop_jobflow_starts_nothing_more(runner: LocalRunner, notes: Path) -> None:
    stop = toy.stopping("stop_jobflow")
    rest = [toy.add(str(notes), 1, i, 0.2) for i in range(6)]
    summary = runner.run(Flow([stop, *rest]), RUN)
    assert summary.counts["skipped"] >= 4
    assert len(toy.notes(notes)) == summary.counts["completed"] - 1


def test_failed_job_leaves_a_record(runner: LocalRunner, store: JobStore) -> None:
    bad = toy.raising()
    lost = toy.count(bad.output)
    good = toy.count(1)
    kept = toy.tolerant([bad.output, good.output])
    summary = runner.run(Flow([bad, lost, good, kept]), RUN)
    assert summary.counts == {"failed": 1, "skipped": 1, "completed": 2}
    assert not summary.ok
    record = document(store, "raising")
    assert record["error"]["summary"] == "raising failed: ValueError: no such pseudopotential"
    assert "toy_jobs.py" in record["error"]["traceback"]
    assert record["host"]
    assert record["started"] < record["ended"]
    assert store.get_output(kept.uuid) == 1
    (failure,) = summary.failures
    assert (failure.folder / "job.log").exists()
    assert str(failure.folder) in summary.message
    assert [path.name for path in failure.folder.parent.glob("*-*")] == [failure.folder.name]


def test_a_failed_replacement_is_the_only_failure(runner: LocalRunner) -> None:
    bad = toy.becoming_a_failure()
    summary = runner.run(Flow([bad, toy.count(bad.output)]), RUN)
    assert summary.counts == {"completed": 1, "failed": 1, "skipped": 2}
    assert summary.failures[0].summary == "raising failed: ValueError: no such pseudopotential"


def test_keep_all_folders(tmp_path: Path, notes: Path) -> None:
    runner = LocalRunner(store_url=str(tmp_path / "run.db"), scratch=tmp_path, keep="all")
    flow = diamond(notes)
    assert runner.run(flow, RUN).ok
    kept = sorted(path.name for path in runner.folder(RUN).iterdir() if path.is_dir())
    assert kept == sorted(f"add-{job.uuid[:8]}" for job in flow.jobs)


def test_a_folder_that_cannot_be_made_is_told(runner: LocalRunner) -> None:
    job = toy.count(1)
    runner.folder(RUN).mkdir(parents=True)
    (runner.folder(RUN) / f"count-{job.uuid[:8]}").touch()
    (failure,) = runner.run(job, RUN).failures
    assert failure.summary.startswith("count failed: FileExistsError: ")


def test_a_job_that_segfaults_fails_alone(runner: LocalRunner, store: JobStore) -> None:
    bad, good = toy.dying(), toy.count(1, 2, 3)
    summary = runner.run(Flow([bad, good]), RUN)
    assert summary.counts == {"failed": 1, "completed": 1}
    assert (
        summary.failures[0].summary
        == "dying failed: its process was killed by SIGSEGV (Segmentation fault)"
    )
    assert document(store, "dying")["tries"] == 2


def test_killed_job_is_tried_again(runner: LocalRunner, store: JobStore, notes: Path) -> None:
    job = toy.dying_once(str(notes))
    assert runner.run(job, RUN).ok
    assert store.get_output(job.uuid) == 3
    assert len(toy.notes(notes)) == 2


def test_memory_is_named_when_a_job_is_killed(tmp_path: Path) -> None:
    runner = LocalRunner(store_url=str(tmp_path / "run.db"), scratch=tmp_path, retries=0)
    summary = runner.run(toy.dying(int(signal.SIGKILL)), RUN)
    assert "SIGKILL (Killed; often the memory was not enough)" in summary.failures[0].summary


def test_failed_jobs_run_again_on_request(
    runner: LocalRunner, store: JobStore, tmp_path: Path
) -> None:
    wanted = tmp_path / "wanted"
    job = toy.fragile(str(wanted))
    child = toy.count(job.output)
    done = toy.count(1)
    flow = Flow([job, child, done])
    assert runner.run(flow, RUN).counts == {"failed": 1, "skipped": 1, "completed": 1}
    wanted.write_text("four")
    assert runner.resume(RUN).counts == {"failed": 1, "skipped": 1, "completed": 1}
    assert runner.resume(RUN, retry_failed=True).counts == {"completed": 3}
    assert store.get_output(job.uuid) == 4
    assert document(store, "fragile")["error"] is None
    assert store.count({"uuid": done.uuid}) == 1


def test_submit_runs_nothing(runner: LocalRunner, store: JobStore, notes: Path) -> None:
    runner.submit(diamond(notes), RUN)
    assert states(store) == {"add": "waiting"}
    assert not notes.exists()
    assert runner.resume(RUN).counts == {"completed": 4}


def test_a_run_is_submitted_once(runner: LocalRunner, notes: Path) -> None:
    flow = diamond(notes)
    runner.submit(flow, RUN)
    with pytest.raises(JournalError, match="resume it, or choose another name"):
        runner.run(diamond(notes), RUN)
    with pytest.raises(JournalError, match="submitted before, as run 'a run'"):
        runner.run(flow, "another run")
    with pytest.raises(JournalError, match="'third' has no jobs"):
        runner.resume("third")


def test_runs_from_another_thread(runner: LocalRunner, notes: Path) -> None:
    summaries = []
    thread = threading.Thread(target=lambda: summaries.append(runner.run(diamond(notes), RUN)))
    thread.start()
    thread.join()
    assert summaries[0].ok


def test_relative_store_and_an_unguarded_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import pathlib, toy_jobs\n"
        "from ionloop.engines.local.runner import LocalRunner\n"
        "runner = LocalRunner(store_url='run.db', scratch=pathlib.Path('scratch'))\n"
        "raise SystemExit(not runner.run(toy_jobs.count(1), 'x').ok)\n"
    )
    assert subprocess.run([sys.executable, script.name], cwd=tmp_path, check=False).returncode == 0


def test_code_of_the_script_itself_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib\nfrom jobflow import job\n"
        "from ionloop.engines.local.runner import LocalRunner\n"
        "@job\ndef mine():\n    return 1\n"
        "LocalRunner(store_url='run.db', scratch=pathlib.Path('s')).run(mine(), 'x')\n"
    )
    ended = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert "job 'mine' uses code defined in the script itself" in ended.stderr


def test_jobs_get_one_thread_unless_told(runner: LocalRunner, store: JobStore) -> None:
    job = toy.environment("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    told = LocalRunner(
        store_url=runner.store_url, scratch=runner.scratch, env={"CUDA_VISIBLE_DEVICES": "3"}
    )
    assert told.run(job, RUN).ok
    assert store.get_output(job.uuid) == ["1", "3"]


def test_jobs_see_the_variables_that_are_set_when_they_begin(
    runner: LocalRunner, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for value in ("first", "second", None):
        monkeypatch.delenv("LICENCE", raising=False)
        if value:
            monkeypatch.setenv("LICENCE", value)
        job = toy.environment("LICENCE")
        assert runner.run(job, f"with {value}").ok
        seen += store.get_output(job.uuid)
    assert seen == ["first", "second", None]


def test_jobs_that_wait_for_each_other_fail(runner: LocalRunner, store: JobStore) -> None:
    first, second = toy.count(1), toy.count(2)
    runner.submit(Flow([first, second]), RUN)
    journal = Journal(collection(store, "jobs"), RUN)
    for job, other in ((first, second), (second, first)):
        journal.change(f"{job.uuid}-1", parents=[other.uuid])
    summary = runner.resume(RUN)
    assert [each.summary for each in summary.failures] == [
        "count failed: it waits for a job that waits for it"
    ] * 2
