"""How far a job has come, from the files that the programs write."""

from __future__ import annotations

import json
from pathlib import Path

from ionloop.codes.common.progress import advance_of, plan_trajectory


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


def trajectories(folder: Path, number: int, over: int) -> list[str]:
    """Plan trajectories of 1,000 steps, the first of which are over."""
    names = [f"trajectory-{index:04d}" for index in range(number)]
    for name in names:
        plan_trajectory(name, 1000, folder)
    assert advance_of([folder]) is None
    for name in names[:over]:
        (folder / f"{name}.over").touch()
    return names[over:]


def test_a_trajectory_tells_its_step(tmp_path):
    left = trajectories(tmp_path, number=4, over=2)
    (tmp_path / f"{left[0]}.temperature").write_text("# fix\n0 300.0\n300 290.1\n")
    (tmp_path / f"{left[0]}.1.temperature").write_text("# fix\n300 290.1\n400 305.7\n4")
    advance = advance_of([tmp_path])
    assert advance is not None
    assert advance.words == "MD step 400 of 1000, trajectory 3 of 4"
    assert (advance.done, advance.total) == (2400, 4000)


def test_trajectories_side_by_side_tell_the_sum_of_their_steps(tmp_path):
    for name, step in zip(trajectories(tmp_path, number=4, over=1), (200, 200, 100), strict=True):
        (tmp_path / f"{name}.temperature").write_text(f"0 300.0\n{step} 290.1\n")
    advance = advance_of([tmp_path])
    assert advance is not None
    assert advance.words == "MD step 100 of 1000, trajectories 2-4 of 4"
    assert (advance.done, advance.total) == (1500, 4000)
