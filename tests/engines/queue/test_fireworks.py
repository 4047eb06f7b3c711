"""FireWorks with the database server and the queue: every job once, whatever happens."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jobflow import Flow

sys.path.insert(0, str(Path(__file__).parent))

import fireworks_jobs as jobs
from fireworks_site import Site, marks, needs_slurm, opened_site, states, wait_until

from ionloop.engines.base import EngineError, last_sentence
from ionloop.engines.fireworks import recovery
from ionloop.engines.fireworks.engine import FireworksEngine
from ionloop.jobs.placement import Role, assign
from ionloop.schemas.job import JobState

pytestmark = marks

PLACEMENT = {"default": {"_fworker": "cpu"}, "train": {"_fworker": "gpu"}}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened_site(tmp_path) as opened:
        yield opened


def loop(path: Path, last: int = 2, width: int = 4) -> Flow:
    return Flow([jobs.new_turn(str(path), 0, last, width)])


def expected(last: int = 2, width: int = 4) -> Counter[str]:
    labels = [f"label-{turn}-{k}" for turn in range(last) for k in range(width)]
    trainings = [f"train-{turn}" for turn in range(last)]
    return Counter([*labels, *trainings, *(f"turn-{turn}" for turn in range(last + 1))])


def started(path: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in jobs.notes(path))


def ended(engine: FireworksEngine, run: str = "run") -> bool:
    rows = engine.jobs(run)
    return bool(rows) and set(states(rows)) == {JobState.COMPLETED}


def failed(engine: FireworksEngine, run: str = "run") -> list[str]:
    return [row.name for row in engine.jobs(run) if row.state is JobState.FAILED]


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def row_of(engine: FireworksEngine, name: str, run: str = "run") -> Any:
    (row,) = [row for row in engine.jobs(run) if row.name == name]
    return row


def test_three_runners_run_a_growing_flow_every_job_once(site: Site, tmp_path: Path) -> None:
    engine, notes = site.engine(), tmp_path / "notes"
    engine.submit(loop(notes), "run", PLACEMENT)
    assert [(row.name, row.state) for row in engine.jobs("run")] == [("turn 0", JobState.WAITING)]
    for worker in ("cpu", "cpu", "gpu"):
        site.rlaunch(worker)
    wait_until(lambda: ended(engine), site)

    assert started(notes) == expected()
    rows = engine.jobs("run")
    workers = {(row.role, row.worker) for row in rows}
    assert workers == {("label", "cpu"), ("train", "gpu"), ("decide", "cpu")}
    assert {row.tries for row in rows} == {1}
    assert all(row.started < row.ended for row in rows)
    assert engine.pause("run") == engine.cancel("run") == engine.retry("run") == 0


@needs_slurm
def test_queue_with_two_workers(site: Site, tmp_path: Path) -> None:
    engine, notes = site.engine(), tmp_path / "notes"
    engine.submit(loop(notes, last=1, width=3), "run", PLACEMENT)
    for worker in ("cpu", "gpu"):
        site.qlaunch(worker)
    wait_until(lambda: ended(engine), site)

    assert started(notes) == expected(last=1, width=3)
    partitions = {line.split()[0].split("-")[0]: line.split()[1] for line in jobs.notes(notes)}
    assert partitions == {"turn": "main", "label": "main", "train": "gpu"}
    assert all(row.queue_id and row.tries == 1 for row in engine.jobs("run"))


@needs_slurm
def test_job_ended_by_the_queue_goes_on_from_its_checkpoint(site: Site, tmp_path: Path) -> None:
    engine, notes = site.engine(), tmp_path / "notes"
    training = assign(jobs.resuming(str(notes), 600), Role.TRAIN, "training")
    engine.submit(Flow([training]), "run", {"default": {"_fworker": "cpu"}})
    site.qlaunch("cpu")
    wait_until(lambda: jobs.notes(notes) != [], site)
    running = row_of(engine, "training")
    assert (running.state, running.worker) == (JobState.RUNNING, "cpu")
    # Silent for longer than allowed, but the queue has it.
    assert site.engine(lost_after=1e-3).recover("run") == 0

    slurm("scancel", running.queue_id)
    wait_until(lambda: engine.recover("run") == 1, site)
    wait_until(lambda: ended(engine), site)
    assert jobs.notes(notes) == ["resuming from scratch", "resuming from checkpoint"]
    finished = row_of(engine, "training")
    assert finished.tries == 2 and finished.queue_id != running.queue_id


def test_worker_that_no_longer_pings_is_replaced(site: Site, tmp_path: Path) -> None:
    engine, notes = site.engine(lost_after=6), tmp_path / "notes"
    training = assign(jobs.resuming(str(notes), 600), Role.TRAIN, "training")
    engine.submit(Flow([training]), "run", {})
    first = site.rlaunch()
    wait_until(lambda: jobs.notes(notes) != [], site)
    assert engine.recover("run") == 0
    first.kill()
    site.rlaunch()
    wait_until(lambda: engine.recover("run") == 1, site)
    wait_until(lambda: ended(engine), site)
    assert jobs.notes(notes) == ["resuming from scratch", "resuming from checkpoint"]


def test_worker_lost_too_often_is_a_failure_that_retry_forgives(site: Site, tmp_path: Path) -> None:
    engine, notes = site.engine(lost_after=4, max_tries=1), tmp_path / "notes"
    training = assign(jobs.resuming(str(notes), 600), Role.TRAIN, "training")
    engine.submit(Flow([training]), "run", {})
    first = site.rlaunch()
    wait_until(lambda: jobs.notes(notes) != [], site)
    first.kill()
    wait_until(lambda: engine.recover("run") == 0 and failed(engine) == ["training"], site)
    assert row_of(engine, "training").error == "its worker ended without a result or an error"
    assert engine.retry("run", role="label") == engine.retry("run", error="memory") == 0
    assert engine.retry("run", role="train", error="without a result") == 1
    site.rlaunch()
    wait_until(lambda: len(jobs.notes(notes)) == 2, site)
    assert engine.recover("run") == 0


def test_retry_runs_what_failed_and_what_waits_for_it(site: Site, tmp_path: Path) -> None:
    engine, cure = site.engine(), tmp_path / "cure"
    bad = assign(jobs.fragile(str(cure)), Role.LABEL, "bad")
    after = assign(jobs.train(str(tmp_path / "notes"), "after", [bad.output]), Role.TRAIN, "after")
    engine.submit(Flow([bad, after]), "run", {})
    site.rlaunch()
    wait_until(lambda: failed(engine) == ["bad"], site)
    assert row_of(engine, "after").state is JobState.WAITING
    error = row_of(engine, "bad").error
    assert error.startswith("FileNotFoundError: [Errno 2] No such file or directory")
    cure.write_text("abc")
    assert engine.retry("run", error="no such file") == 1
    wait_until(lambda: ended(engine), site)
    assert row_of(engine, "bad").tries == 2
    assert started(tmp_path / "notes") == {"after": 1}


def test_retry_leaves_a_failure_that_the_run_did_without(site: Site, tmp_path: Path) -> None:
    engine, notes = site.engine(), tmp_path / "notes"
    bad = assign(jobs.fragile(str(tmp_path / "never")), Role.LABEL, "bad")
    good = assign(jobs.label(str(notes), "good"), Role.LABEL, "good")
    both = assign(jobs.collect(str(notes), [bad.output, good.output]), Role.LABEL, "collect")
    engine.submit(Flow([bad, good, both]), "run", {})
    site.rlaunch()
    wait_until(lambda: row_of(engine, "collect").state is JobState.COMPLETED, site)
    assert failed(engine) == ["bad"]
    assert engine.retry("run") == 0
    assert started(notes) == {"good": 1, "collect": 1}


@needs_slurm
def test_two_launchers_started_by_mistake(site: Site, tmp_path: Path) -> None:
    engine, notes = site.engine(), tmp_path / "notes"
    engine.submit(loop(notes, last=1, width=3), "run", {"default": {"_fworker": "cpu"}})
    for _ in range(2):
        site.qlaunch("cpu")
    wait_until(lambda: ended(engine), site)
    assert started(notes) == expected(last=1, width=3)


@needs_slurm
def test_queue_whose_jobs_cannot_start_is_given_up(site: Site, tmp_path: Path) -> None:
    engine = site.engine(max_tries=2)
    adapter = site.folder / "cpu_queue.yaml"
    adapter.write_text(adapter.read_text().replace("rlaunch -l", "no_such_program -l"))
    only = assign(jobs.label(str(tmp_path / "notes"), "label"), Role.LABEL, "label")
    engine.submit(Flow([only]), "run", {})
    site.qlaunch("cpu")
    wait_until(lambda: engine.recover("run") == 1, site)
    wait_until(lambda: engine.recover("run") == 0 and failed(engine) == ["label"], site)
    assert row_of(engine, "label").tries == 2


@needs_slurm
def test_pause_holds_what_is_queued_and_what_comes(site: Site, tmp_path: Path) -> None:
    engine, notes = site.engine(), tmp_path / "notes"
    engine.submit(loop(notes, last=2, width=3), "run", {"default": {"_fworker": "cpu"}})
    first = site.qlaunch("cpu")
    wait_until(lambda: started(notes)["turn-0"] == 1 and len(engine.jobs("run")) > 1, site)
    assert engine.pause("run") > 0
    wait_until(lambda: not states(engine.jobs("run"))[JobState.RUNNING], site)
    engine.recover("run")
    table = states(engine.jobs("run"))
    assert set(table) <= {JobState.PAUSED, JobState.COMPLETED}
    first.kill()
    assert engine.proceed("run") == table[JobState.PAUSED]
    site.qlaunch("cpu")
    wait_until(lambda: ended(engine), site)
    assert started(notes) == expected(last=2, width=3)


@needs_slurm
def test_cancel_ends_what_runs_in_the_queue(site: Site, tmp_path: Path) -> None:
    engine, notes = site.engine(), tmp_path / "notes"
    long = assign(jobs.label(str(notes), "long", 600), Role.LABEL, "long")
    after = assign(jobs.train(str(notes), "after", [long.output]), Role.TRAIN, "after")
    engine.submit(Flow([long, after]), "run", {"default": {"_fworker": "cpu"}})
    site.qlaunch("cpu")
    wait_until(lambda: jobs.notes(notes) != [], site)
    number = row_of(engine, "long").queue_id
    assert engine.cancel("run") == 2
    assert states(engine.jobs("run")) == {JobState.CANCELLED: 2}
    wait_until(lambda: number not in slurm("squeue", "-h", "-o", "%A").split(), site)
    assert engine.recover("run") == engine.retry("run") == 0


@needs_slurm
def test_cancel_says_what_it_cannot_end(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = site.engine()
    long = assign(jobs.label(str(tmp_path / "notes"), "long", 600), Role.LABEL, "long")
    engine.submit(Flow([long]), "run", {"default": {"_fworker": "cpu"}})
    site.qlaunch("cpu")
    wait_until(lambda: jobs.notes(tmp_path / "notes") != [], site)
    number = row_of(engine, "long").queue_id
    with site.adapter_changed(_q_commands_override={"cancel_cmd": "no_such_program"}):
        assert engine.cancel("run") == 1
    assert f"did not end its jobs {number}" in caplog.text
    slurm("scancel", number)


def test_place_moves_what_has_not_begun_and_all_that_follows(site: Site, tmp_path: Path) -> None:
    engine, notes = site.engine(), tmp_path / "notes"
    engine.submit(loop(notes, last=2, width=2), "run", {"default": {"_fworker": "full"}})
    for worker in ("cpu", "gpu"):
        site.rlaunch(worker)
    elsewhere = {"default": {"_fworker": "cpu", "_category": "any"}, "train": {"_fworker": "gpu"}}
    assert engine.place("run", elsewhere) == 1
    assert engine.place("run", PLACEMENT) == 1
    wait_until(lambda: ended(engine), site)
    assert started(notes) == expected(last=2, width=2)
    workers = {(row.role, row.worker) for row in engine.jobs("run")}
    assert workers == {("label", "cpu"), ("train", "gpu"), ("decide", "cpu")}


@pytest.mark.parametrize("moment", ["first", "last"])
def test_worker_killed_while_it_enters_new_jobs(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(recovery, "LOCK_PATIENCE", 1.0)
    engine, notes = site.engine(), tmp_path / "notes"
    engine.submit(loop(notes, last=1, width=3), "run", {"default": {"_fworker": "cpu"}})
    assert site.crash(moment) == 9
    with site.pad() as pad:
        assert pad.fireworks.count_documents({"spec.run": "run"}) > len(engine.jobs("run")) == 1
        # It does not look like an ended run.
        assert states(engine.jobs("run"))[JobState.RUNNING] == 1
        assert engine.recover("run") == 0
        rows = engine.jobs("run")
        assert len(rows) == pad.fireworks.count_documents({"spec.run": "run"}) == 7
    assert states(rows)[JobState.COMPLETED] == 1
    site.rlaunch()
    wait_until(lambda: ended(engine), site)
    assert started(notes) == expected(last=1, width=3)


def test_requests_that_make_no_sense(site: Site, tmp_path: Path) -> None:
    engine = site.engine()
    assert engine.check({}) == []
    (sentence,) = FireworksEngine(str(tmp_path / "a.db"), site.launchpad).check({})
    assert "mongodb://" in sentence
    (sentence,) = FireworksEngine(site.store, tmp_path / "none.yaml").check({})
    assert "no LaunchPad file" in sentence
    with pytest.raises(EngineError, match="not on the LaunchPad"):
        engine.pause("run")
    engine.submit(loop(tmp_path / "notes"), "run", {})
    with pytest.raises(EngineError, match="already"):
        engine.submit(loop(tmp_path / "notes"), "run", {})
    assert engine.jobs("another") == []
    with site.pad() as pad:
        pad.fw_id_assigner.delete_many({})
    assert "lpad reset" in engine.check({})[0]


def test_looking_at_a_run_keeps_no_connection(
    site: Site, tmp_path: Path, connections: Callable[[], int]
) -> None:
    engine = site.engine()
    engine.submit(loop(tmp_path / "notes"), "run", {})
    before = connections()
    for _ in range(5):
        engine.jobs("run")
        engine.recover("run")
    assert connections() == before


def test_last_sentence() -> None:
    stack = 'Traceback:\n  File "a.py", line 1, in f\n    raise E\n    ^^^^\nE: why\nhint: how\n'
    assert last_sentence(stack) == "E: why"
    assert last_sentence("") == "no message"
