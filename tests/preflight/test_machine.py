"""The engine of a run file: what the check says, and what the jobs of each role are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ionloop.engines.local.engine import LocalEngine
from ionloop.preflight.inputs import Inputs
from ionloop.preflight.machine import look_at_engine
from ionloop.runfile.engine import engine_of
from ionloop.runfile.errors import RunFileError
from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import load

TOY = Path(__file__).parents[1] / "toy"


def run_file(**changes: Any) -> RunFile:
    return load(TOY / "run.yaml").model_copy(update=changes)


def test_this_machine_needs_nothing() -> None:
    assert list(look_at_engine(run_file(), Inputs())) == []
    assert isinstance(engine_of(run_file()), LocalEngine)


@pytest.mark.parametrize("runner", ["fireworks", "remote"])
def test_a_queue_needs_a_server(runner: str) -> None:
    (finding,) = look_at_engine(run_file(runner=runner), Inputs())
    assert (finding.level, finding.key) == ("error", "store")
    assert "is a file, which the nodes of a queue cannot share" in finding.sentence
    assert "mongodb://" in finding.cure


def test_what_an_engine_lacks_is_a_finding(tmp_path: Path) -> None:
    absent = tmp_path / "my_launchpad.yaml"
    given = {"runner": "fireworks", "store": "mongodb://127.0.0.1:1/none", "launchpad": absent}
    (finding,) = look_at_engine(run_file(**given), Inputs())
    assert (finding.level, finding.key) == ("error", "runner")
    assert str(absent) in finding.sentence


def test_ranks_are_the_cores_of_the_role() -> None:
    queue = run_file(runner="fireworks")
    label = queue.label.model_copy(update={"cores": 32})
    placement = queue.model_copy(update={"label": label}).placement
    assert placement["label"]["_queueadapter"]["ntasks"] == 32
    assert placement["train"]["_queueadapter"]["ntasks"] == 1


def test_resources_in_a_run_file(tmp_path: Path) -> None:
    text = (TOY / "run.yaml").read_text() + (
        "runner: remote\nresources: {train: {worker: gpu, gpus: 1, time: '12:00:00'}}\n"
    )
    path = tmp_path / "run.yaml"
    path.write_text(text)
    placement = load(path).placement
    assert placement["train"]["worker"] == "gpu"
    assert placement["train"]["resources"]["time_limit"] == 43_200
    path.write_text(text.replace("gpus: 1", "gpu: 1"))
    with pytest.raises(RunFileError, match=r"resources.train.gpu.*gpus"):
        load(path)
