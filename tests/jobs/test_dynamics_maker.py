from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobflow import Flow, JobStore, run_locally

from ionloop.codes.common.acceptance import AcceptanceLimits
from ionloop.codes.common.ase import calculate
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.external.settings import ExternalSettings
from ionloop.codes.forcefield.model import calculator
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.jobs.label.dft import GpawLabelMaker
from ionloop.jobs.label.external import ExternalLabelMaker
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.label.ledger import Ledger
from ionloop.jobs.roles import LabelMaker
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")

STAND_IN = Path(__file__).parents[1] / "dft" / "stand_in_gpaw.py"
EMT = calculator(ForceFieldSettings(model="ase.calculators.emt:EMT"))
RUN = MolecularDynamics(temperature=400, steps=20, every=5, skip=5)


def toy_maker(floor: float = 0.9, **settings: Any) -> ForceFieldLabelMaker:
    chosen = ForceFieldSettings(model="toy_labeller:ToyLabeller", **settings)
    return ForceFieldLabelMaker(settings=chosen, floor=floor, cores=3)


def gpaw_maker(misdeed: str = "none") -> GpawLabelMaker:
    command = f"{sys.executable} {STAND_IN} {misdeed} 26.7.0"
    return GpawLabelMaker(settings=GpawSettings(command=command), cores=2)


def labels_of(
    maker: LabelMaker, starts: list[Frames], run: MolecularDynamics, store: JobStore
) -> Labels | None:
    job = maker.aimd(starts, run)
    run_locally(Flow([job]), store=store, log=False)
    found = store.query_one({"uuid": job.uuid}, load=True)
    return Labels.from_stored(found["output"]) if found else None


def test_every_nth_step_is_a_label_in_the_ledger(
    toy: Path, store: JobStore, gold_copper: Frames
) -> None:
    labels = labels_of(toy_maker(), [gold_copper[:1], gold_copper[1:2]], RUN, store)
    assert labels is not None
    assert (labels.n_requested, labels.n_accepted, labels.n_reused) == (6, 6, 0)
    assert len(toy.read_text().splitlines()) == 2 * 20  # the start, and every step but the last
    assert labels.core_seconds == pytest.approx(3 * labels.seconds)
    (part,) = labels.frames
    assert part.energies is not None and part.forces is not None and part.virials is not None
    for index in range(6):
        truth = calculate(EMT, part[index].unlabelled())
        assert part.energies[index] == pytest.approx(truth.energy, abs=1e-4)
        np.testing.assert_allclose(part.forces[index], truth.forces, atol=1e-4)
        np.testing.assert_allclose(part.virials[index], truth.virial, atol=1e-3)
    # Neighbours in time stand on one side of training and validation.
    names = [f"aimd {frame_id} 400 K 2 fs" for frame_id in gold_copper.ids[:2]]
    assert part.groups == (names[0],) * 3 + (names[1],) * 3
    ledger = Ledger(store.additional_stores["labels"])
    assert set(ledger.settled(part.ids, toy_maker().terms)) == set(part.ids)


def test_a_run_that_is_repeated_visits_the_same_frames_whose_labels_stay(
    toy: Path, store: JobStore, gold_copper: Frames
) -> None:
    ledger = Ledger(store.additional_stores["labels"])
    once = labels_of(toy_maker(), [gold_copper[:1]], RUN, store)
    assert once is not None
    bought = ledger.find(once.frames[0].ids, toy_maker().level)
    again = labels_of(toy_maker(), [gold_copper[:1]], RUN, store)
    assert again is not None
    assert once.frames[0].ids == again.frames[0].ids
    kept = ledger.find(once.frames[0].ids, toy_maker().level)
    assert store.additional_stores["labels"].count({"status": "accepted"}) == len(bought) == 3
    for frame_id, label in bought.items():
        assert kept[frame_id].provenance == label.provenance


def test_limits_and_floor_hold(toy: Path, store: JobStore, gold_copper: Frames) -> None:
    limits = AcceptanceLimits(max_force=1e-3)
    tolerant = labels_of(toy_maker(0.0, limits=limits), [gold_copper[:1]], RUN, store)
    assert tolerant is not None
    assert (tolerant.n_accepted, tolerant.rejected_by_reason) == (0, {"outlier": 3})
    assert labels_of(toy_maker(limits=limits), [gold_copper[:1]], RUN, store) is None


def test_a_program_runs_it_step_by_step(
    store: JobStore, gold_copper: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = MolecularDynamics(temperature=400, steps=4, every=2)
    labels = labels_of(gpaw_maker(), [gold_copper[:1]], short, store)
    assert labels is not None
    assert labels.n_accepted == 2
    assert labels.core_seconds == pytest.approx(2 * labels.seconds)
    assert labels.level == gpaw_maker().level
    (part,) = labels.frames
    assert part.forces is not None
    truth = calculate(EMT, part[1].unlabelled())
    np.testing.assert_allclose(part.forces[1], truth.forces, atol=1e-4)


def test_steps_that_do_not_converge_end_the_run(
    store: JobStore, gold_copper: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert labels_of(gpaw_maker("unconverged"), [gold_copper[:1]], RUN, store) is None


def test_what_runs_outside_is_refused(gold_copper: Frames) -> None:
    outside = ExternalLabelMaker(settings=ExternalSettings(level="x"))
    with pytest.raises(NotImplementedError, match=r"leave initial\.aimd out, or name .*data"):
        outside.aimd([gold_copper[:1]], RUN)
