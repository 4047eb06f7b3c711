"""Faults on the queue, with real work: a run ends complete, and no label is calculated twice."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobflow import Flow

sys.path.insert(0, str(Path(__file__).parent))

from fault_sites import (
    TOY,
    Place,
    both_engines,
    cable_to,
    marks,
    opened_place,
    rows_of,
    server_of_both,
    slurm,
    wait_for,
    wait_for_end,
    without_slurmd,
)
from fireworks_site import MONGO

from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.unfinished import UNFINISHED
from ionloop.runfile.reading import load
from ionloop.schemas.frames import Frames
from ionloop.schemas.job import JobRow
from ionloop.schemas.label import Labels
from ionloop.stores.connect import collection, open_store

pytestmark = marks


@pytest.fixture
def place(kind: str, tmp_path: Path, toy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.setenv(UNFINISHED, str(tmp_path / "unfinished"))
    with opened_place(kind, folder) as opened:
        yield opened


def labeller(seconds: float, batch_size: int) -> ForceFieldLabelMaker:
    settings = ForceFieldSettings(model="toy_labeller:ToyLabeller", options={"seconds": seconds})
    return ForceFieldLabelMaker(batch_size=batch_size, settings=settings, floor=1.0)


def labels_of(frames: Frames, seconds: float = 1.0, batch_size: int = 6) -> Flow:
    return Flow([labeller(seconds, batch_size).make([frames])])


def everything(frames: Frames) -> Flow:
    """Return labels, a training on them, and an exploration with what was trained."""
    maker = load(TOY / "run.yaml").maker()
    learn = maker.train.settings.model_copy(update={"steps": 3000})
    move = maker.explore.settings.model_copy(update={"restart_every": 500})
    (stage,) = maker.stages
    labels = labeller(1.0, 12).make([frames])
    train = replace(maker.train, settings=learn).make([labels.output], seed=3)
    longer = stage.model_copy(update={"steps": 1500, "max_turns": 1})
    explorer = replace(maker.explore, settings=move)
    explore = explorer.make(train.output, longer, [frames[:1]], maker.trust, seed=5)
    return Flow([labels, train, explore])


def calculated(log: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in log.read_text().splitlines())


def check_labels(place: Place, log: Path, frames: Frames) -> None:
    """Check that every label was calculated once, and that all are in the ledger."""
    assert len(calculated(log)) == len(frames)
    assert set(calculated(log).values()) == {1}
    store = open_store(place.url)
    try:
        found = collection(store, "labels").distinct("frame_id", {"status": "accepted"})
        accounts = store.query({"output.@class": Labels.__name__, "name": "account for labels"})
        assert [each["output"]["n_accepted"] for each in accounts] == [len(frames)]
    finally:
        store.close()
    assert sorted(found) == sorted(frames.ids)


def running(place: Place, name: str, sign: str = "") -> JobRow | None:
    """Return a job of this name that runs and has left such a file in its unfinished work."""
    for row in rows_of(place, name):
        there = not sign or list(work_of(row).glob(sign))
        if row.state == "running" and row.queue_id and there:
            return row
    return None


def work_of(row: JobRow) -> Path:
    return Path(os.environ[UNFINISHED]) / f"{row.uuid}-{row.index}"


def wait_for_labels(place: Place, log: Path, number: int) -> None:
    """Wait until so many are calculated and the next one is under way."""
    wait_for(lambda: len(calculated(log)) >= number, place)
    time.sleep(0.4)


@both_engines
def test_jobs_that_the_queue_ends(place: Place, toy: Path, gold_copper: Frames) -> None:
    place.submit(everything(gold_copper))
    place.start()
    wait_for_labels(place, toy, 3)
    label = wait_for(lambda: running(place, "label batch"), place)
    slurm("scancel", label.queue_id)
    training = wait_for(lambda: running(place, "train model 1", "model.ckpt.meta"), place)
    slurm("scancel", training.queue_id)
    exploration = wait_for(lambda: running(place, "explore batch", "*.1.restart"), place)
    slurm("scancel", exploration.queue_id)
    first_legs = times_of_first_legs(exploration)

    rows = {row.job_id: row for row in wait_for_end(place)}
    ended = (label, training, exploration)
    assert [rows[row.job_id].tries for row in ended] == [2, 2, 2]
    assert all(rows[row.job_id].queue_id != row.queue_id for row in ended)
    check_labels(place, toy, gold_copper)
    assert "restart from model" in (work_of(training) / "train.log").read_text()
    assert first_legs and first_legs.items() <= times_of_first_legs(exploration).items()


def times_of_first_legs(exploration: JobRow) -> dict[str, int]:
    """Return when trajectories that have come to their second leg ended their first."""
    begun = work_of(exploration).glob("*.1.restart")
    dumps = [path.with_name(path.name.replace(".1.restart", ".dump")) for path in begun]
    return {dump.name: dump.stat().st_mtime_ns for dump in dumps}


@both_engines
def test_runners_started_twice_and_killed(place: Place, toy: Path, gold_copper: Frames) -> None:
    place.submit(labels_of(gold_copper, batch_size=4))
    place.start()
    place.start()
    wait_for_labels(place, toy, 3)
    place.kill()
    time.sleep(3)
    place.start()
    place.start()
    rows = wait_for_end(place)
    assert {row.tries for row in rows if row.name.startswith("label batch")} == {1}
    check_labels(place, toy, gold_copper)


@both_engines
def test_job_over_its_time_limit(place: Place, toy: Path, gold_copper: Frames) -> None:
    # Slurm looks for such jobs every 30 s.
    place.submit(labels_of(gold_copper, seconds=4.0, batch_size=12))
    place.start()
    wait_for_labels(place, toy, 2)
    row = wait_for(lambda: running(place, "label batch"), place)
    for limit in ("TimeLimit=1", "EndTime=now+1"):  # only the first of them is an end in itself
        slurm("scontrol", "update", f"JobId={row.queue_id}", limit)
    rows = {row.job_id: row for row in wait_for_end(place)}
    assert rows[row.job_id].tries == 2
    check_labels(place, toy, gold_copper)


@both_engines
def test_database_away_for_twenty_seconds(
    kind: str, tmp_path: Path, toy: Path, gold_copper: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cable_to(str(MONGO)) as cable:
        server_of_both(monkeypatch, cable.url)
        with opened_place(kind, tmp_path) as place:
            place.submit(labels_of(gold_copper, seconds=2.0))
            place.start()
            wait_for_labels(place, toy, 2)
            cable.cut(20)
            wait_for_end(place)
            check_labels(place, toy, gold_copper)


@both_engines
def test_slurmd_stopped_and_started(place: Place, toy: Path, gold_copper: Frames) -> None:
    place.submit(labels_of(gold_copper, batch_size=4))
    place.start()
    wait_for_labels(place, toy, 2)
    with without_slurmd():
        time.sleep(8)
    wait_for_end(place)
    check_labels(place, toy, gold_copper)


def test_vasp_stand_in_through_the_queue(
    vasp: Any, tmp_path: Path, toy: Path, gold_copper: Frames
) -> None:
    from ionloop.codes.vasp.settings import VaspSettings
    from ionloop.jobs.label.vasp import VaspLabelMaker

    given = {"encut": 300, "kpoints": "gamma", "potcars": {"Au": "Au", "Cu": "Cu"}}
    settings = VaspSettings(vasp_cmd=vasp.command, **given)
    frames = gold_copper[:4]
    vasp.ask({frames.ids[0]: "edddav"})  # which custodian cures
    with opened_place("fireworks", tmp_path) as place:
        place.submit(Flow([VaspLabelMaker(settings=settings, floor=1.0).make([frames])]))
        place.start()
        rows = wait_for_end(place)
        labels = [row for row in rows if row.name.startswith("label batch")]
        assert len(labels) == 4 and all(row.queue_id and row.tries == 1 for row in labels)
        store = open_store(place.url)
        try:
            accepted = {"status": "accepted", "frame_id": {"$in": frames.ids}}
            assert collection(store, "labels").count(accepted) == 4
        finally:
            store.close()
    starts = Counter(vasp.starts)
    assert starts == dict.fromkeys(frames.ids, 1) | {frames.ids[0]: 2}
