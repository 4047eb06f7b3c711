from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobflow import Flow, JobStore, run_locally

from ionloop.codes.common.ase import calculate, relax
from ionloop.codes.forcefield.model import calculator
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.jobs.label.dft import Cp2kLabelMaker, GpawLabelMaker
from ionloop.jobs.label.ledger import Ledger
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")

STAND_IN = Path(__file__).parents[1] / "dft" / "stand_in_gpaw.py"
EMT = calculator(ForceFieldSettings(model="ase.calculators.emt:EMT"))


def maker(misdeed: str = "none", floor: float = 0.9, **given: Any) -> GpawLabelMaker:
    command = f"{sys.executable} {STAND_IN} {misdeed} 26.7.0"
    settings = GpawSettings(command=command, relax_fmax=0.3, **given)
    return GpawLabelMaker(settings=settings, floor=floor, cores=2, batch_size=2)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def labels_of(flow: Flow, store: JobStore) -> Labels:
    run_locally(flow, store=store, log=False, allow_external_references=True)
    labels: Labels = flow.output.resolve(store)
    return labels


def test_frames_are_labelled_each_in_its_folder(
    store: JobStore, gold_copper: Frames, place: Path
) -> None:
    labels = labels_of(maker().make([gold_copper[:3]]), store)
    assert (labels.n_requested, labels.n_accepted) == (3, 3)
    assert labels.frames[0].forces is not None
    assert np.allclose(labels.frames[0].forces[1], calculate(EMT, gold_copper[1]).forces)
    assert labels.frames[0].level == maker().level.hash
    assert labels.core_seconds == pytest.approx(2 * labels.seconds)
    folders = {path.parent.name for path in place.glob("**/answer.json")}
    assert folders == set(gold_copper[:3].ids)


def test_unconverged_is_rejected_for_good(
    store: JobStore, gold_copper: Frames, place: Path
) -> None:
    labeller = maker("unconverged", floor=0.0)
    labels = labels_of(labeller.make([gold_copper[:1]]), store)
    assert labels.rejected_by_reason == {"unconverged": 1}
    settled = Ledger(store.additional_stores["labels"]).settled(gold_copper[:1].ids, labeller.terms)
    assert set(settled) == set(gold_copper[:1].ids)


def test_unconverged_is_calculated_again_unasked_with_more_steps(
    store: JobStore, gold_copper: Frames, place: Path
) -> None:
    frames = [gold_copper[:1]]
    few = maker("unconverged", floor=0.0, max_scf_steps=50)
    assert labels_of(few.make(frames), store).rejected_by_reason == {"unconverged": 1}
    same = labels_of(maker(floor=0.0, max_scf_steps=50).make(frames), store)
    assert (same.rejected_by_reason, same.n_reused) == ({"unconverged": 1}, 1)
    more = labels_of(maker(max_scf_steps=500).make(frames), store)
    assert (more.n_accepted, more.n_reused) == (1, 0)


def test_a_crash_costs_the_frame_and_is_asked_again(
    store: JobStore, gold_copper: Frames, place: Path
) -> None:
    labels = labels_of(maker("crash", floor=0.0).make([gold_copper[:2]]), store)
    assert labels.rejected_by_reason == {"labeller failed": 2}
    assert "a wave function was lost" in labels.rejections[0].detail
    mended = labels_of(maker().make([gold_copper[:2]]), store)
    assert (mended.n_accepted, mended.n_reused) == (2, 0)


def test_relaxation_by_the_program(store: JobStore, gold_copper: Frames, place: Path) -> None:
    job = maker().relax([gold_copper[:1]])
    run_locally(job, store=store, log=False)
    (relaxed,) = job.output.resolve(store)
    settings = GpawSettings(relax_fmax=0.3)
    assert np.allclose(relaxed.positions, relax(EMT, gold_copper[0], settings).positions, atol=1e-5)


def test_each_maker_has_its_program() -> None:
    assert GpawLabelMaker().level.code == "gpaw"
    assert Cp2kLabelMaker().level.code == "cp2k"
