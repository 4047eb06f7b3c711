"""The whole loop, real programs, killed again and again: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ionloop.schemas.label import LabelDoc, LabelStatus
from ionloop.schemas.selection import SelectionDoc
from ionloop.stores.connect import collection

pytestmark = pytest.mark.integration

# The steps in which the run is killed, in the order in which they come; and how long to wait at
# most, in s, after a job of the step has begun.
KILLS = [
    ("label", 0.8),
    ("label", 1.2),
    ("train", 3.0),
    ("train", 8.0),
    ("explore", 3.0),
    ("explore", 6.0),
    ("select", 0.3),
    ("label", 1.0),
    ("evaluate", 2.0),
    ("decide", 0.2),
    ("train", 6.0),
    ("explore", 5.0),
]


def kill_in(place: Any, process: subprocess.Popen[bytes], role: str, seconds: float) -> bool:
    """Kill the run with all it started, some time after a job of the role has begun."""
    with place.opened() as store:
        while not collection(store, "jobs").count({"state": "running", "role": role}):
            if process.poll() is not None:
                return False
            time.sleep(0.02)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.3)  # the workers follow their runner
    return True


def recorded(place: Any) -> dict[str, LabelDoc]:
    """Return the labels of the ledger by the key under which the toy labeller logs."""
    from toy_labeller import frame_key

    from ionloop.formats.ase import to_ase

    return {frame_key(to_ase(label.frame)[0]): label for label in place.labels()}


def calculated(place: Any) -> Counter[str]:
    return place.calculated() if (place.folder / "log").exists() else Counter()


def end_of(place: Any) -> dict[str, Any]:
    """Return everything about a finished run that must not depend on kills."""
    summary = place.summary()
    with place.opened() as store:
        counts = {
            name: collection(store, name).count() for name in ("outputs", "data", "labels", "jobs")
        }
        states = Counter(job["state"] for job in collection(store, "jobs").query())
    return {
        **counts,
        "states": states,
        "picks": [selection.picks for selection in place.documents(SelectionDoc)],
        "decisions": [turn.decision for turn in place.turns()],
        "accurate fractions": summary.accurate_fractions,
        "label counts": (summary.n_labels, summary.n_accepted),
        "force error": summary.validation.errors.force_mev_per_angstrom,
    }


def test_killed_in_every_phase_and_resumed(
    finished_toy: Any, new_place: Callable[..., Any], toy: Path
) -> None:
    place = new_place()
    place.write()
    dice = random.Random(20)
    lost_in_the_window: Counter[str] = Counter()
    kills = []
    process = place.start("run", "run.yaml")
    while not Path(place.store).exists():
        time.sleep(0.05)
    for role, most in KILLS:
        if not kill_in(place, process, role, dice.uniform(0.0, most)):
            break
        kills.append(role)
        # A label may be calculated and not yet safe when the kill comes. It is the one thing
        # that is done again, so it is counted here, exactly.
        lost_in_the_window.update(calculated(place).keys() - recorded(place).keys())
        process = place.start("resume", "toy")
    place.ends(process, 0)

    assert len(kills) >= 10
    assert {"label", "train", "explore", "select", "evaluate", "decide"} <= set(kills)
    labels = recorded(place)
    assert calculated(place) == Counter(labels.keys()) + lost_in_the_window
    ended, plain = end_of(place), end_of(finished_toy)
    accepted = sum(label.status is LabelStatus.ACCEPTED for label in labels.values())
    assert ended["label counts"] == (len(labels), accepted)
    assert ended.pop("force error") == pytest.approx(plain.pop("force error"), rel=1e-6)
    assert ended == plain


def test_an_undisturbed_run_labels_every_frame_once(finished_toy: Any, toy: Path) -> None:
    labels = recorded(finished_toy)
    assert calculated(finished_toy) == Counter(labels.keys())
    assert all(np.isfinite(label.energy) for label in labels.values() if label.energy is not None)
