"""DeePMD students of another potential, with real programs, killed while they are taught."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ionloop.export.models import export_models
from ionloop.monitor.tables import summary_lines

pytestmark = pytest.mark.integration

SECTIONS: dict[str, Any] = {
    "initial": {"n_perturbed": 16, "displacement": 0.15},
    "train": {"code": "springs:SpringsSection"},
    "explore": {"code": "springs:SpringsExploreSection"},
    "stages": [{"temperatures": [300], "steps": 200, "n_structures": 1, "max_turns": 1}],
    "production": {
        "code": "deepmd",
        "steps": 100,
        "rcut": 4.5,
        "neurons": [4, 8],
        "axis_neurons": 4,
        "fitting": [16, 16],
        "learning_rate_start": 5.0e-3,
        "learning_rate_stop": 1.0e-4,
        "teacher": {
            "n_own": 30,
            "n_frames": 10,
            "max_rounds": 1,
            "stage": {"temperatures": [300], "steps": 200, "dump_every": 5},
        },
    },
}


def kill(place: Any, process: subprocess.Popen[bytes], job: str, seconds: float) -> None:
    """Kill the run with all it started, some time after a job has begun."""
    place.await_job(process, job)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.3)  # the workers follow their runner


def test_killed_while_it_teaches_and_resumed(
    new_place: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = new_place()
    log = Path(place.folder) / "springs"
    monkeypatch.setenv("SPRINGS_LOG", str(log))
    place.write(label={"options": {}}, keep="all")
    place.replace("trust", **SECTIONS)
    kill(place, place.start("run", "run.yaml"), "teacher: label by the teacher", 0.8)
    kill(place, place.start("resume", "toy"), "round 0: train model", 3.0)
    place.run("resume", "toy")

    # The teacher labelled every frame once with each model; a kill costs the frame in its hands.
    labelled = Counter(log.read_text().split())
    assert sum(labelled.values()) - len(labelled) <= 3
    taught = [each for each in place.labels() if each.level_words.startswith("teacher (")]
    assert len(taught) == len({each.label_id for each in taught}) == 30 + 10
    # And nothing was bought for it.
    summary = place.summary()
    assert sum(place.calculated().values()) == summary.n_labels
    assert set(place.calculated().values()) == {1}

    found = summary.distillation
    assert (found.n_taught, len(found.rounds)) == (40, 1)
    assert found.rounds[0].errors.n_frames == 10
    assert summary.validation.errors.n_frames == summary.validation.teacher.n_frames == 4
    lines = summary_lines("toy", summary)
    assert any(line.startswith("distilled in 1 round(s) from 3 springs") for line in lines)
    assert any(line.startswith("its teacher on the same frames: force RMSE") for line in lines)

    with place.opened() as store:
        _, account = export_models(store, "toy", tmp_path)
    about = json.loads(account.read_text())
    assert about["teacher"]["models"] == found.teacher.models
    assert "teacher (" not in about["level_of_theory"]
    assert [each["backend"] for each in about["models"]] == ["tensorflow"]
    # Each training drew the labels five times as often as what the teacher said.
    inputs = [json.loads(path.read_text()) for path in (place.folder).rglob("input.json")]
    shares = [each["training"]["training_data"]["auto_prob"] for each in inputs]
    assert len(shares) == 3
    n_labels = potential_labels(summary)
    share = 5 * n_labels / (5 * n_labels + 30)
    assert sum(share_of(each) == pytest.approx(share, abs=1e-5) for each in shares) == 2


def potential_labels(summary: Any) -> int:
    """Return how many labels the students were trained on."""
    held = summary.validation_errors[0].n_frames
    return int(summary.distillation.rounds[0].n_training_frames - 30 - held)


def share_of(auto_prob: str) -> float:
    """Return the fraction of the draws that the second block gets, that of the labels."""
    return float(auto_prob.split(";")[2].rpartition(":")[2])
