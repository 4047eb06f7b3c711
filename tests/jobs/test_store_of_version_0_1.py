"""A store of version 0.1 opens: its labels are taken where the level is provably the same.

``labels_of_0_1.json`` holds what that version wrote, from gold-copper by EMT: the frames 0 and 1
accepted, 2 rejected by a limit of 0.001 eV/Å, 3 without a result, and 0 and 1 again under keys of
GPAW (default setups, special setups for Cu, a k-point spacing of 0.5 1/Å).
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobflow import JobStore, run_locally

from ionloop.codes.common.acceptance import AcceptanceLimits, Terms
from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.label.ledger import Ledger
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, LevelOfTheory, RejectReason
from ionloop.stores.connect import collection, open_store

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")
DOCUMENTS = json.loads(Path(__file__).with_name("labels_of_0_1.json").read_text())
EMT = LevelOfTheory(
    code="custom", settings={"model": "ase.calculators.emt:EMT", "version": "3.29.0"}
)


@pytest.fixture
def old(store: JobStore) -> JobStore:
    collection(store, "labels").update(DOCUMENTS, key="label_id")
    return store


@pytest.fixture
def frames() -> Frames:
    labels = [LabelDoc.from_stored(each) for each in DOCUMENTS[:4]]
    return Frames(
        labels[0].frame.symbols,
        np.array([label.frame.positions[0] for label in labels]),
        np.array([label.frame.cells[0] for label in labels]),
    )


def ledger(store: JobStore) -> Ledger:
    return Ledger(collection(store, "labels"))


def found(store: JobStore, frames: Frames, settings: GpawSettings) -> dict[str, LabelDoc]:
    level = settings.level
    return ledger(store).settled(frames.ids, Terms(level=level))


def test_accepted_labels_are_taken_and_what_kept_no_numbers_is_calculated_again(
    old: JobStore, frames: Frames
) -> None:
    settled = ledger(old).settled(frames.ids, Terms(level=EMT))
    assert set(settled) == set(frames.ids[:2])
    assert all(label.reason is None and label.largest_force for label in settled.values())
    assert ledger(old).find(frames.ids, EMT)[frames.ids[2]].reason == RejectReason.OUTLIER
    strict = Terms(level=EMT, limits=AcceptanceLimits(max_force=1e-3))
    judged = ledger(old).settled(frames.ids, strict)
    assert {label.reason for label in judged.values()} == {RejectReason.OUTLIER}


def test_labels_of_gpaw_are_found_under_their_old_keys(old: JobStore, frames: Frames) -> None:
    gamma: dict[str, Any] = {"kpoints": (1, 1, 1)}
    default = found(old, frames, GpawSettings(**gamma))
    special = found(old, frames, GpawSettings(**gamma, setups={"Cu": "11"}))
    assert set(default) == set(special) == set(frames.ids[:2])
    assert {each.level for each in default.values()} != {each.level for each in special.values()}
    assert not found(old, frames, GpawSettings(**gamma, cutoff=600))


def test_labels_whose_level_is_not_proven_the_same_are_reported(
    old: JobStore, frames: Frames
) -> None:
    level = GpawSettings(kpoints=(1, 1, 1), cutoff=600).level
    others = ledger(old).not_taken(frames.ids, level)
    assert sum(others.values()) == 6
    assert all(words.startswith("gpaw (version 26") for words in others)
    assert not ledger(old).not_taken(frames.ids, ForceFieldLabelMaker().level)


def test_the_step_says_which_labels_it_did_not_take(
    old: JobStore, frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ionloop.codes.forcefield.settings import ForceFieldSettings

    monkeypatch.chdir(tmp_path)
    options = {"asap_cutoff": True}
    settings = ForceFieldSettings(model="ase.calculators.emt:EMT", options=options)
    flow = ForceFieldLabelMaker(settings=settings).make([frames[:2]])
    run_locally(flow, store=old, log=False, allow_external_references=True)
    labels = flow.output.resolve(old)
    (note,) = labels.notes
    assert note.startswith("the store has 2 labels of these frames at custom (model ase.")
    assert labels.n_accepted == 2


def test_check_says_which_labels_will_not_be_taken(old: JobStore, tmp_path: Path) -> None:
    from ionloop.preflight.inputs import Inputs
    from ionloop.preflight.store import look_at_store
    from ionloop.runfile.model import RunFile

    label = {"code": "gpaw", "kpoints": [1, 1, 1], "cutoff": 600}
    given: dict[str, Any] = {
        "structures": ["AuCu.vasp"],
        "store": str(tmp_path / "ionloop.db"),
        "label": label,
    }
    with closing(open_store(given["store"])):
        said = [f.sentence for f in look_at_store(RunFile.model_validate(given), Inputs())]
    assert sum("the store has 2 labels at gpaw (" in each for each in said) == 3
