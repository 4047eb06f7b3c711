"""How far a job has come, from the files that the programs write."""

from __future__ import annotations

import json
from pathlib import Path

from ionloop.codes.common.progress import advance_of
from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.codes.lammps.script import input_script
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.formats.reading import load_structures

TOY = Path(__file__).parents[1] / "toy"


def training(folder: Path, steps: int, done: int, cut: str = "") -> None:
    folder.mkdir()
    (folder / "input.json").write_text(json.dumps({"training": {"numb_steps": steps}}))
    lines = [f"{step:7d}    1.2e-01    3.4e-02\n" for step in range(0, done + 1, 100)]
    (folder / "lcurve.out").write_text("".join(["#  step  rmse_trn\n", *lines, cut]))


def test_nothing_is_told_where_no_file_tells(tmp_path):
    assert advance_of([tmp_path, tmp_path / "missing"]) is None


def test_a_training_tells_its_step(tmp_path):
    training(tmp_path / "model-0", 3000, 1200)
    advance = advance_of([tmp_path / "missing", tmp_path])
    assert advance is not None
    assert advance.words == "training step 1200 of 3000"
    assert (advance.done, advance.total) == (1200, 3000)


def test_a_training_has_not_begun_before_its_first_line(tmp_path):
    training(tmp_path / "model-0", 3000, -1)
    advance = advance_of([tmp_path])
    assert advance is not None
    assert advance.words == "training step 0 of 3000"


def test_a_line_that_is_being_written_does_not_count(tmp_path):
    training(tmp_path / "model-0", 3000, 1200, cut="    13")
    advance = advance_of([tmp_path])
    assert advance is not None
    assert advance.done == 1200


def test_of_trainings_side_by_side_the_slowest_is_told(tmp_path):
    training(tmp_path / "model-0", 3000, 1200)
    training(tmp_path / "model-1", 3000, 800)
    advance = advance_of([tmp_path])
    assert advance is not None
    assert advance.words == "training step 800 of 3000"
    assert (advance.done, advance.total) == (2000, 6000)


def test_a_trajectory_tells_its_step(tmp_path):
    (start,) = load_structures([TOY / "AuCu.vasp"])
    conditions = {"temperature": 300.0, "pressure": 1.0, "ensemble": "nvt", "timestep": 1.0}
    asked = {**conditions, "steps": 1000, "dump_every": 10, "seed": 1}
    tasks = [TrajectoryTask(index=i, start=start, **asked) for i in range(4)]
    settings = LammpsSettings(restart_every=300)
    scripts = [input_script(task, ["a.pb", "b.pb"], ["Au", "Cu"], settings) for task in tasks]
    (tmp_path / "in.lammps").write_text("".join(scripts))
    for task in tasks:
        (tmp_path / f"{task.name}.data").touch()
    assert advance_of([tmp_path]) is None
    for task in tasks[:2]:
        (tmp_path / f"{task.name}.over").touch()
    (tmp_path / f"{tasks[2].name}.1.temperature").write_text("# fix\n300 290.1\n400 305.7\n4")
    advance = advance_of([tmp_path])
    assert advance is not None
    assert advance.words == "MD step 400 of 1000, trajectory 3 of 4"
    assert (advance.done, advance.total) == (2400, 4000)
