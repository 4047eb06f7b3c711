"""The whole loop, real programs, killed again and again: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobflow import JobStore

from ionloop.schemas.iteration import IterationDoc
from ionloop.schemas.label import LabelDoc, LabelStatus
from ionloop.schemas.run import SummaryDoc
from ionloop.schemas.selection import SelectionDoc
from ionloop.stores.connect import open_store

pytestmark = pytest.mark.integration

TOY = Path(__file__).parents[1] / "toy"
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


def ionloop(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("ionloop")), *arguments]
    paths = os.pathsep.join(filter(None, [str(TOY), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths, "TOY_LOG": str(log)}
    with (log.parent / "output").open("ab") as output:
        return subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )


@contextmanager
def opened(path: Path) -> Iterator[JobStore]:
    store = open_store(path)
    yield store
    store.close()


def wait_for(process: subprocess.Popen[bytes], path: Path, role: str) -> bool:
    """Wait until a job of the role runs; tell whether one did before the run ended."""
    while not path.exists():
        time.sleep(0.05)
    with opened(path) as store:
        while process.poll() is None:
            if store.additional_stores["jobs"].count({"state": "running", "role": role}):
                return True
            time.sleep(0.02)
    return False


def calculated(log: Path) -> Counter[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(line.split()[0] for line in lines)


def recorded(path: Path) -> dict[str, LabelDoc]:
    """Return the labels of the ledger by the key under which the toy labeller logs."""
    from toy_labeller import frame_key  # type: ignore[import-not-found]

    from ionloop.codes.conversions import to_ase

    with opened(path) as store:
        labels = [LabelDoc.from_stored(d) for d in store.additional_stores["labels"].query()]
    return {frame_key(to_ase(label.frame)[0]): label for label in labels}


def documents(path: Path, kind: type[Any]) -> list[Any]:
    with opened(path) as store:
        found = store.query({"output.@class": kind.__name__}, load=True)
        ordered = sorted(found, key=lambda document: document["completed_at"])
        return [kind.from_stored(document["output"]) for document in ordered]


def end_of(path: Path) -> dict[str, Any]:
    """Return everything about a finished run that must not depend on kills."""
    (summary,) = documents(path, SummaryDoc)
    with opened(path) as store:
        counts = {
            "outputs": store.count(),
            "blobs": store.additional_stores["data"].count(),
            "labels": store.additional_stores["labels"].count(),
            "jobs": Counter(d["state"] for d in store.additional_stores["jobs"].query()),
        }
    return {
        **counts,
        "picks": [s.picks for s in documents(path, SelectionDoc)],
        "decisions": [i.decision for i in documents(path, IterationDoc)],
        "accurate fractions": summary.accurate_fractions,
        "label counts": (summary.n_labels, summary.n_accepted),
        "force error": summary.validation.errors.force_mev_per_angstrom,
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run = ionloop("run", str(TOY / "run.yaml"), "--store", str(folder / "a.db"), log=folder / "log")
    assert run.wait(timeout=600) == 0, (folder / "output").read_text()
    return folder


def test_killed_in_every_phase_and_resumed(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOY))
    path, log = tmp_path / "a.db", tmp_path / "log"
    dice = random.Random(20)
    lost_in_the_window: Counter[str] = Counter()
    kills = []
    process = ionloop("run", str(TOY / "run.yaml"), "--store", str(path), log=log)
    for role, most in KILLS:
        if not wait_for(process, path, role):
            break
        time.sleep(dice.uniform(0.0, most))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills.append(role)
        time.sleep(0.3)  # the workers follow their runner
        # A label may be calculated and not yet safe when the kill comes. It is the one thing
        # that is done again, so it is counted here, exactly.
        lost_in_the_window.update(calculated(log).keys() - recorded(path).keys())
        process = ionloop("resume", "toy", "--store", str(path), log=log)
    assert process.wait(timeout=600) == 0, (tmp_path / "output").read_text()

    assert len(kills) >= 10
    assert {"label", "train", "explore", "select", "evaluate", "decide"} <= set(kills)
    labels = recorded(path)
    assert calculated(log) == Counter(labels.keys()) + lost_in_the_window
    summary, plain = end_of(path), end_of(undisturbed / "a.db")
    assert summary["label counts"][0] == len(labels)
    accepted = sum(label.status is LabelStatus.ACCEPTED for label in labels.values())
    assert summary["label counts"][1] == accepted
    assert summary.pop("force error") == pytest.approx(plain.pop("force error"), rel=1e-6)
    assert summary == plain


def test_every_label_equals_the_undisturbed_one(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOY))
    labels = recorded(undisturbed / "a.db")
    assert calculated(undisturbed / "log") == Counter(labels.keys())
    assert all(np.isfinite(label.energy) for label in labels.values() if label.energy is not None)
