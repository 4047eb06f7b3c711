from __future__ import annotations

import operator
from pathlib import Path

import pytest
from jobflow import Flow, Job

from ionloop.engines.base import EngineError
from ionloop.engines.local.runner import LocalRunner
from ionloop.monitor.records import UnknownRunError, find_run
from ionloop.runfile.errors import RunFileError
from ionloop.runfile.model import RunFile
from ionloop.runfile.tolerances import OtherSettingsError
from ionloop.runs import launch, records
from ionloop.schemas.run import RunState, SummaryDoc
from ionloop.stores.connect import collection, open_store

LGPS = Path(__file__).parents[2] / "examples/lgps/LGPS.vasp"
SUMMARY = {
    "run": "lgps",
    "converged": True,
    "reason": "all accurate",
    "n_turns": 1,
    "n_labels": 10,
    "n_accepted": 9,
    "accurate_fractions": [1.0],
    "counts": [],
    "core_hours": 0.5,
    "potential": None,
}


@pytest.fixture
def run_file(tmp_path) -> RunFile:
    given = RunFile(name="lgps", structures=[LGPS], cores=1)
    return given.located(tmp_path)


@pytest.fixture
def flow(monkeypatch):
    """Let run files build a flow that ends with a summary at once."""

    def build(self: RunFile) -> Flow:
        end = Job(SummaryDoc, function_kwargs=SUMMARY)
        return Flow([end], output=end.output)

    monkeypatch.setattr(RunFile, "flow", build)


def stored(run_file: RunFile, run: str) -> dict:
    store = open_store(run_file.store)
    try:
        return collection(store, "runs").query_one({"run": run})
    finally:
        store.close()


@pytest.mark.usefixtures("flow")
def test_start_runs_to_the_end(run_file):
    ended = launch.start(run_file)
    assert ended.ok
    document = stored(run_file, "lgps")
    assert document["state"] == RunState.COMPLETED
    assert document["runner"] is None
    assert "store" not in document["run_file"]
    assert records.summary(run_file.store, "lgps").n_labels == 10


@pytest.mark.usefixtures("flow")
def test_a_taken_name_gets_a_number(run_file):
    assert [launch.start(run_file).run for _ in range(3)] == ["lgps", "lgps-2", "lgps-3"]


@pytest.mark.usefixtures("flow")
def test_or_resume_takes_the_run_up(run_file):
    launch.start(run_file)
    assert launch.start(run_file, or_resume=True).run == "lgps"
    assert launch.start(run_file.model_copy(update={"cores": 2}), or_resume=True).run == "lgps"


@pytest.mark.usefixtures("flow")
def test_a_run_of_a_queue_is_not_run_here(run_file):
    queued = run_file.model_copy(update={"runner": "fireworks"})
    with pytest.raises(EngineError, match="run lgps is for fireworks, not this process: submit"):
        launch.start(queued)
    records.enter(queued)
    with pytest.raises(EngineError, match="continue it there with: ionloop resume lgps"):
        launch.resume(run_file.store)
    with pytest.raises(EngineError, match="continue it there with: ionloop resume lgps"):
        launch.start(run_file, or_resume=True)
    assert stored(run_file, "lgps")["run_file"]["runner"] == "fireworks"
    records.enter(queued)
    with pytest.raises(EngineError, match=r"run lgps-2 is for fireworks.* ionloop resume lgps-2"):
        launch.resume(run_file.store)


@pytest.mark.usefixtures("flow")
def test_or_resume_refuses_other_settings(run_file):
    launch.start(run_file)
    other = run_file.model_copy(update={"seed": 2})
    with pytest.raises(OtherSettingsError, match="seed: 1 → 2"):
        launch.start(other, or_resume=True)


def test_a_run_without_its_summary_has_failed(run_file, monkeypatch):
    failing = Job(operator.truediv, function_args=(1, 0))
    monkeypatch.setattr(RunFile, "flow", lambda self: Flow([failing]))
    ended = launch.start(run_file)
    assert "division by zero" in ended.failures[0].summary
    assert stored(run_file, "lgps")["state"] == RunState.FAILED
    assert records.summary(run_file.store, "lgps") is None


@pytest.mark.usefixtures("flow")
def test_a_run_killed_before_its_submission_is_taken_up(run_file, monkeypatch):
    def die(self, flow, run):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalRunner, "run", die)
        with pytest.raises(KeyboardInterrupt):
            launch.start(run_file)
    assert stored(run_file, "lgps")["state"] == RunState.INTERRUPTED
    assert launch.resume(run_file.store).ok
    assert stored(run_file, "lgps")["state"] == RunState.COMPLETED


@pytest.mark.usefixtures("flow")
def test_resume_takes_the_latest_and_names_the_known(run_file):
    for _ in range(2):
        launch.start(run_file)
    assert launch.resume(run_file.store).run == "lgps-2"
    with pytest.raises(UnknownRunError, match="it has lgps, lgps-2"):
        launch.resume(run_file.store, "agi")


def test_resume_of_an_empty_store_says_so(tmp_path):
    with pytest.raises(UnknownRunError, match="start one with"):
        launch.resume(str(tmp_path / "new.db"))


@pytest.mark.usefixtures("flow")
def test_a_run_file_of_another_version_is_refused_with_a_sentence(run_file):
    launch.start(run_file)
    store = open_store(run_file.store)
    document = stored(run_file, "lgps")
    document["run_file"]["colour"] = "blue"
    collection(store, "runs").update(document, key="run")
    store.close()
    with pytest.raises(RunFileError, match="colour: unknown key"):
        launch.resume(run_file.store, "lgps")


def test_bad_structures_leave_no_run_behind(run_file, tmp_path):
    broken = run_file.model_copy(update={"structures": [tmp_path / "none.vasp"]})
    with pytest.raises(ValueError, match=r"none\.vasp does not exist"):
        launch.start(broken)
    assert not Path(run_file.store).exists()


@pytest.mark.usefixtures("flow")
def test_a_run_with_the_role_that_never_had_a_job_is_taken_up(run_file: RunFile) -> None:
    """Version 0.1 stored resources for `transport`."""
    launch.start(run_file)
    store = open_store(run_file.store)
    try:
        runs = collection(store, "runs")
        document = runs.query_one({"run": "lgps"})
        document["run_file"]["resources"]["transport"] = {"queue": "long", "extra": {}}
        runs.update(document | {"schema_version": 1}, key="run")
        found = find_run(store, "lgps")
        assert records.stored_run_file(store, found, run_file.store).name == "lgps"
    finally:
        store.close()
