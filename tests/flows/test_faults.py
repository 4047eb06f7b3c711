"""Faults one at a time: each ends in the documented behaviour, told in a sentence."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ionloop.cli.main import app
from ionloop.codes import deepmd, lammps
from ionloop.schemas.exploration import ExplorationDoc, ExplorationPart
from ionloop.schemas.label import LabelStatus
from ionloop.schemas.potential import EnsembleDoc, TrainingDoc
from ionloop.schemas.run import RunState

TOY = Path(__file__).parents[1] / "toy"
N_PICKS = 8
SMALL: dict[str, Any] = {
    "label": {"model": "faulty_labeller:FaultyLabeller", "batch_size": 4, "floor": 0.5},
    "train": {"n_models": 3, "steps": 100},
    "explore": {"batch_size": 2},
    "select": {"max_labels": N_PICKS},
    "stages": [
        {
            "temperatures": [300, 600],
            "steps": 60,
            "dump_every": 5,
            "n_structures": 2,
            "max_turns": 1,
        }
    ],
    "production": {"steps": 50, "n_models": 1},
    "validation": {"temperatures": []},
}


@pytest.fixture(scope="module")
def labelled(new_place: Callable[..., Any]) -> Any:
    """A run stopped when its first training had begun."""
    place = new_place()
    place.write(**SMALL)
    process = place.start("run", "run.yaml", fault="dp-hangs")
    place.await_job(process, "train model")
    place.interrupt(process)
    return place


@pytest.fixture(scope="module")
def trained(labelled: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run stopped when its first exploration had begun."""
    place = labelled.copy(tmp_path_factory.mktemp("trained"))
    process = place.start("resume", fault="lmp-hangs")
    place.await_job(process, "explore batch")
    place.interrupt(process)
    return place


@pytest.fixture(scope="module")
def explored(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run stopped when it had begun to label its first picks."""
    place = trained.copy(tmp_path_factory.mktemp("explored"))
    process = place.start("resume", fault="labeller-hangs")
    place.await_job(process, "label batch")
    place.interrupt(process)
    return place


def check_account(place: Any) -> None:
    """Check that every label was calculated once, and that none is unaccounted for."""
    labels = place.labels()
    assert max(place.calculated().values()) == 1
    summary = place.summary()
    accepted = sum(label.status is LabelStatus.ACCEPTED for label in labels)
    assert (summary.n_labels, summary.n_accepted) == (len(labels), accepted)


@pytest.mark.integration
def test_labeller_raises_for_one_frame(explored: Any, tmp_path: Path) -> None:
    place = explored.copy(tmp_path)
    told = place.run("resume", fault="labeller-raises")
    assert "1 of 4 frames gave no result" in told
    assert "the self-consistent cycle diverged" in told
    (turn,) = place.turns()
    assert turn.rejected == {"labeller failed": 1}
    assert turn.n_accepted == N_PICKS - 1
    check_account(place)


@pytest.mark.integration
def test_labeller_returns_nan_for_one_frame(explored: Any, tmp_path: Path) -> None:
    place = explored.copy(tmp_path)
    place.run("resume", fault="labeller-returns-nan")
    (turn,) = place.turns()
    assert turn.rejected == {"non-finite": 1}
    (rejected,) = [x for x in place.labels() if x.status is LabelStatus.REJECTED]
    assert "forces" in rejected.detail
    check_account(place)


@pytest.mark.integration
def test_a_small_turn_stopped_by_one_loss_goes_on_with_another_floor(
    explored: Any, tmp_path: Path
) -> None:
    place = explored.copy(tmp_path)
    trained = [document.provenance.job for document in place.documents(TrainingDoc)]
    place.write(**SMALL | {"label": SMALL["label"] | {"floor": 0.9, "allowance": 0}})
    strict = "resume", "toy", "--run-file", "run.yaml"
    told = place.run(*strict, code=1, fault="labeller-returns-nan")
    assert "changed: label.floor: 0.5 → 0.9" in told
    assert f"{N_PICKS - 1} of {N_PICKS} labels were accepted, the floor is 90%" in told
    assert place.state() is RunState.FAILED
    assert "the floor is 90%" in place.run("resume", "--retry-failed", code=1)

    place.write(**SMALL | {"label": SMALL["label"] | {"floor": 0.9, "allowance": 1}, "seed": 5})
    assert "(seed: 3 → 5)" in place.run(*strict, code=2)
    place.write(**SMALL | {"label": SMALL["label"] | {"floor": 0.9, "allowance": 1}})
    assert "changed: label.allowance: 0 → 1" in place.run(*strict)
    (turn,) = place.turns()
    assert turn.rejected == {"non-finite": 1}
    jobs = [document.provenance.job for document in place.documents(TrainingDoc)]
    assert jobs[: len(trained)] == trained
    assert len(jobs) == len(trained) + 1  # the production training
    check_account(place)


@pytest.mark.integration
def test_one_training_crashes(labelled: Any, tmp_path: Path) -> None:
    place = labelled.copy(tmp_path)
    told = place.run("resume", fault="one-training-crashes")
    assert "train model 2 of 3 failed" in told
    assert "ended with exit status 1: this training was asked to crash" in told
    (turn,) = place.turns()
    assert turn.failures == ["the training of model 2 with seed 1004 failed"]
    assert place.documents(EnsembleDoc)[0].seeds == [1003, 1005]
    assert (turn.n_models, turn.n_models_asked) == (2, 3)
    few = "model deviations are of 2 models, 3 were asked for"
    assert turn.notes == [few]
    assert place.summary().notes[0] == f"turn 0: {few}"
    assert few in place.run("status", "toy")
    check_account(place)


@pytest.mark.integration
def test_one_trajectory_explodes_at_once(trained: Any, tmp_path: Path) -> None:
    place = trained.copy(tmp_path)
    place.run("resume", fault="one-explodes")
    (exploration,) = place.documents(ExplorationDoc)
    exploded, *others = exploration.trajectories
    assert (exploded.index, exploded.steps_done, exploded.finished) == (0, 0, False)
    assert "at step 0" in exploded.stop_reason
    assert [other.finished for other in others] == [True] * 3
    parts = place.documents(ExplorationPart)
    assert {int(n) for part in parts for n in part.deviations["trajectory"]} == {1, 2, 3}
    assert place.turns()[0].n_accepted == N_PICKS
    check_account(place)


@pytest.mark.integration
def test_every_trajectory_explodes(trained: Any, tmp_path: Path) -> None:
    place = trained.copy(tmp_path)
    told = place.run("resume", code=1, fault="all-explode")
    sentence = "0 of 4 trajectories came beyond their first frame, the floor is 50%"
    assert sentence in told
    assert told.count("failed:") == 1
    assert place.state() is RunState.FAILED
    assert sentence in place.run("status", "toy")


@pytest.mark.integration
def test_check_refuses_without_lammps(new_place: Callable[..., Any], tmp_path: Path) -> None:
    place = new_place()
    place.write(**SMALL)
    told = place.run("run", "run.yaml", code=2, path=without_lammps(tmp_path))
    assert "'lmp' was not found on PATH" in told
    assert not Path(place.store).exists()
    assert not (place.folder / "log").exists()


@pytest.mark.integration
def test_lammps_vanishes_in_mid_run(trained: Any, tmp_path: Path) -> None:
    place = trained.copy(tmp_path / "run")
    told = place.run("resume", code=1, path=without_lammps(tmp_path))
    assert "'lmp' was not found on PATH" in told
    assert "see the explore jobs that failed" in told
    assert place.state() is RunState.FAILED
    place.run("resume", "--retry-failed")
    assert place.state() is RunState.COMPLETED
    check_account(place)


def without_lammps(folder: Path) -> str:
    """Return a PATH with DeePMD-kit and the system's programs."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "dp").symlink_to(Path(__file__).parent / "faults" / "dp")
    return f"{programs}:/usr/bin:/bin"


@pytest.mark.integration
def test_disk_full_in_the_folder_of_a_job(trained: Any, tmp_path: Path) -> None:
    place = trained.copy(tmp_path)
    with disk(place.folder / "scratch", "64k") as grow:
        told = place.run("resume", code=1)
        assert f"the disk of {place.folder}/scratch" in told
        assert "is full: make room on it" in told
        grow("200m")
        place.run("resume", "--retry-failed")
    assert place.state() is RunState.COMPLETED
    check_account(place)


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mount a small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")

    def grow(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)

    try:
        yield grow
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.integration
def test_store_locked_by_another_process(explored: Any, tmp_path: Path) -> None:
    place = explored.copy(tmp_path)
    process = place.start("resume")
    place.await_job(process, "label batch")
    with sqlite3.connect(place.store, isolation_level=None) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        before = sum(place.calculated().values())
        time.sleep(10)
        # At most the label at hand, in each of two batches, gets as far as the store.
        assert sum(place.calculated().values()) <= before + 2
        connection.execute("ROLLBACK")
    connection.close()
    place.ends(process, 0)
    check_account(place)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the programs answer: starting them takes seconds."""
    monkeypatch.setattr(deepmd, "program_version", lambda command: "3.2.0")
    monkeypatch.setattr(lammps, "program_version", lambda command, kind: "22 Jul 2025")


BAD_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "a typo": ({"explor": {"batch_size": 2}}, r"explor\b.*explore"),
    "a typo in a section": ({"train": {"n_model": 3}}, r"train\.n_model\b.*n_models"),
    "a window upside down": ({"trust": {"low": 0.5, "high": 0.2}}, r"trust.*low.*high"),
    "an empty structure": ({"structures": ["empty.vasp"]}, r"structures\[0\].*empty\.vasp"),
    "a missing element": (
        {"label": {"model": "chgnet", "options": {}}, "structures": ["strange.vasp"]},
        r"label\.model: chgnet does not cover Po",
    ),
}


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("fault", BAD_FILES)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_bad_run_file(command: str, fault: str, new_place: Callable[..., Any]) -> None:
    changes, sentence = BAD_FILES[fault]
    place = new_place()
    (place.folder / "empty.vasp").touch()
    strange = (TOY / "AuCu.vasp").read_text().replace("Au", "Po")
    (place.folder / "strange.vasp").write_text(strange)
    place.write(**changes)
    answer = CliRunner().invoke(app, [command, str(place.folder / "run.yaml")])
    assert answer.exit_code == 2
    assert re.search(sentence, answer.stderr + answer.stdout)
    assert "Traceback" not in answer.stderr + answer.stdout
    assert not (place.folder / "ionloop.db").exists()
