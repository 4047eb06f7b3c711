"""Runs that earlier versions left in the middle: read, and taken to their end by today's code.

How the stores came about: write_store.py.
"""

from __future__ import annotations

import json
import lzma
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from jobflow import Job, JobStore
from monty.json import MontyDecoder

from ionloop.schemas.label import LabelDoc
from ionloop.schemas.migration import SCHEMA_VERSION
from ionloop.schemas.potential import TrainingDoc
from ionloop.schemas.selection import Verdict
from ionloop.stores.connect import collection, open_store
from ionloop.stores.pruning import trainings

HERE = Path(__file__).parent
TOY = HERE.parent / "toy"


@pytest.fixture(params=["run_of_0_1", "run_of_schema_2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Unpack a store into a folder of its own."""
    content = lzma.decompress((HERE / f"{request.param}.db.xz").read_bytes())
    (tmp_path / "ionloop.db").write_bytes(content)
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[JobStore]:
    with closing(open_store(folder / "ionloop.db")) as opened:
        yield opened


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command in a folder."""
    paths = [str(TOY), os.environ.get("PYTHONPATH", "")]
    modules = os.pathsep.join(filter(None, paths))
    environment = {"PYTHONPATH": modules, "TOY_LOG": str(folder / "log")}
    return subprocess.Popen(
        [sys.executable, "-m", "ionloop.cli", *arguments],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ionloop(folder: Path, *arguments: str) -> str:
    """Run the command in a folder; return what it printed."""
    process = start(folder, *arguments)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def journal(store: JobStore, state: str) -> dict[str, dict[str, Any]]:
    return {each["job_id"]: each for each in collection(store, "jobs").query({"state": state})}


def test_every_job_and_document_is_decoded(store: JobStore) -> None:
    entries = list(collection(store, "jobs").query())
    jobs = [MontyDecoder().process_decoded(entry["job"]) for entry in entries]
    assert len(jobs) > 20 and all(isinstance(job, Job) for job in jobs)
    assert all(callable(job.function) for job in jobs)
    outputs = [each["output"] for each in store.query(load=True)]
    flat = [each for output in outputs for each in (output if type(output) is list else [output])]
    kinds = {type(MontyDecoder().process_decoded(each)).__name__ for each in flat}
    assert {"TrainingDoc", "EnsembleDoc", "ExplorationDoc", "SelectionDoc", "Labels"} <= kinds


def test_labels_are_read(store: JobStore) -> None:
    labels = [LabelDoc.from_stored(each) for each in collection(store, "labels").query()]
    assert len(labels) >= 8 and all(label.frame.is_labelled for label in labels)
    assert {label.schema_version for label in labels} == {SCHEMA_VERSION}


def test_status_and_frames_are_shown(folder: Path) -> None:
    (run,) = json.loads(ionloop(folder, "status", "--json"))
    assert (run["run"], run["standing"]["state"]) == ("toy", "interrupted")
    assert "toy" in ionloop(folder, "status", "toy")
    frames = json.loads(ionloop(folder, "frames", "toy", "--limit", "0", "--json"))
    assert {frame["verdict"] for frame in frames} <= {*Verdict}
    assert len(frames) == 18  # two trajectories of nine frames


def resume_until_the_second_ensemble(folder: Path) -> None:
    """Take the run up, and interrupt it when the models of its second turn are trained."""
    criteria = {"output.@class": "EnsembleDoc", "metadata.iteration": 1}
    process = start(folder, "resume", "toy")
    with closing(open_store(folder / "ionloop.db")) as store:
        while not store.count(criteria):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert "ionloop resume" in "".join(process.communicate(timeout=60))


@pytest.mark.integration
@pytest.mark.parametrize("folder", ["run_of_0_1"], indirect=True)
def test_resume_reaches_the_end_and_nothing_is_done_twice(folder: Path) -> None:
    """In between the checkpoints of the first turn are removed: nothing starts from them."""
    with closing(open_store(folder / "ionloop.db")) as store:
        done = journal(store, "completed")
        bought = {each["frame_id"]: each for each in collection(store, "labels").query()}
    resume_until_the_second_ensemble(folder)
    assert json.loads(ionloop(folder, "store", "prune", "--yes", "--json"))["checkpoints"]["n"] == 2
    ionloop(folder, "resume", "toy")
    with closing(open_store(folder / "ionloop.db")) as store:
        after = journal(store, "completed")
        labels = {each["frame_id"]: each for each in collection(store, "labels").query()}
        assert not journal(store, "failed") and not journal(store, "waiting")
        warm = {
            (each["metadata"].get("iteration"), TrainingDoc.from_stored(training).warm_start)
            for each in store.query({"output.@class": "TrainingDoc"}, load=True)
            for training in trainings(each)
        }
    assert {job_id: after[job_id] for job_id in done} == done
    assert {frame_id: labels[frame_id] for frame_id in bought} == bought
    calculated = len((folder / "log").read_text().splitlines())
    assert calculated == len(labels) - len(bought) > 0
    assert warm == {(0, False), (1, True), (None, True)}
    status = json.loads(ionloop(folder, "status", "toy", "--json"))
    assert status["summary"]["n_turns"] == 2
    assert status["standing"]["state"] == "completed"
    assert [turn["turn"] for turn in status["turns"]] == [0, 1]
    models = ionloop(folder, "export", "toy", "models").splitlines()
    assert [Path(path).name for path in models] == ["potential-0.pb", "potential.json"]
    assert (folder / models[0]).stat().st_size > 0
