from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT
from jobflow import Flow, JobStore, run_locally

from ionloop.codes.common.acceptance import AcceptanceLimits, Terms
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.formats.ase import to_ase
from ionloop.formats.errors import FrameFileError
from ionloop.formats.writing import write_frames
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.label.imports import enter, ingest, judge, read_labelled
from ionloop.jobs.label.ledger import Ledger
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.label import Labels, LevelOfTheory, RejectReason

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")

MAKER = ForceFieldLabelMaker(settings=ForceFieldSettings(model="toy_labeller:ToyLabeller"))
TERMS = Terms(level=LevelOfTheory(code="x", settings={}))


@pytest.fixture
def labelled(gold_copper: Frames) -> Frames:
    """The frames with the labels that the toy labeller would give."""
    (images,) = [to_ase(gold_copper)]
    for atoms in images:
        atoms.calc = EMT()
    return replace(
        gold_copper,
        energies=np.array([atoms.get_potential_energy() for atoms in images]),
        forces=np.array([atoms.get_forces() for atoms in images]),
    )


def ledger(store: JobStore) -> Ledger:
    return Ledger(store.additional_stores["labels"])


def run(flow: Flow, store: JobStore) -> Labels:
    run_locally(flow, store=store, log=False, allow_external_references=True, ensure_success=True)
    labels: Labels = flow.output.resolve(store)
    return labels


def test_data_pass_the_acceptance_of_bought_labels(labelled: Frames) -> None:
    labelled.forces[3, 5, 1] = 1e6
    labelled.energies[4] = 1e9
    labelled.positions[6, 2] = labelled.positions[6, 3] + [0.2, 0, 0]
    labelled.cells[7] /= 20
    labelled.positions[7] /= 20
    reasons = {}
    for index, label in enumerate(judge([labelled], TERMS)):
        if label.reason is not None:
            assert label.reason is RejectReason.OUTLIER
            reasons[index] = label.detail
    assert list(reasons) == [3, 4, 6, 7]
    assert "frame 4 of Au4Cu4: a force of 1e+06 eV/Å on atom 6 (Cu) exceeds" in reasons[3]
    assert "frame 5 of Au4Cu4: 1e+09 eV is no total energy" in reasons[4]
    assert "too near: atoms 3 (" in reasons[6] and "are 0.2 Å apart" in reasons[6]
    assert "frame 8 of Au4Cu4: atoms beyond any density" in reasons[7]


def test_rejected_data_are_counted_and_enter_no_ledger(store: JobStore, labelled: Frames) -> None:
    labelled.forces[:2] *= 1000
    labels = judge([labelled], TERMS)
    found, (note,) = enter(ledger(store), labels, TERMS)
    assert len(found) == 12
    assert note.startswith("2 of 12 frames are rejected (2 outlier); first: frame 1 of Au4Cu4")
    assert len(ledger(store).find(labelled.ids, TERMS.level)) == 10


def test_data_of_which_nothing_is_left_are_refused(store: JobStore, labelled: Frames) -> None:
    labelled.forces[:] *= 1e6
    with pytest.raises(InputError, match=r"none of the data can be used: 12 of 12 .* on atom"):
        enter(ledger(store), judge([labelled], TERMS), TERMS)


def test_the_limits_of_the_run_hold_for_data(labelled: Frames) -> None:
    tight = TERMS.model_copy(update={"limits": AcceptanceLimits(max_force=1e-3)})
    assert all(label.reason for label in judge([labelled], tight))


def test_data_never_replace_a_bought_label_that_differs(
    toy: Path, store: JobStore, labelled: Frames, tmp_path: Path
) -> None:
    bought = run(MAKER.make([labelled[:4].unlabelled()]), store)
    (before,) = bought.frames
    other = replace(labelled, energies=labelled.energies + 0.08, forces=labelled.forces + 0.01)
    images = other[:2].cells.sum(axis=1)[:, None]  # at other periodic images, too
    moved = replace(other[:2], positions=other[:2].positions + images)
    write_frames(concatenate([moved, other[2:]]), tmp_path / "data", "deepmd/npy")
    job = ingest([str(tmp_path / "data")], None, None, MAKER.level)
    labels = run(Flow([job], output=job.output), store)
    assert (labels.n_requested, labels.n_accepted) == (12, 12)
    (note,) = labels.notes
    assert str(tmp_path / "data") in note
    assert "4 frames have a label of this level already" in note
    assert "differ by up to 10 meV/atom and 0.0173 eV/Å; the label that was there stays" in note
    kept = {i: e for part in labels.frames for i, e in zip(part.ids, part.energies, strict=True)}
    assert [kept[i] for i in moved.ids] == pytest.approx(before.energies[:2].tolist(), abs=1e-9)
    assert [kept[i] for i in other.ids[2:4]] == pytest.approx(before.energies[2:].tolist())
    assert [kept[i] for i in other.ids[4:]] == pytest.approx(other.energies[4:].tolist())
    there = ledger(store).find(before.ids, MAKER.level)
    assert [there[i].energy for i in before.ids] == before.energies.tolist()


def test_the_same_labels_again_are_no_difference(store: JobStore, labelled: Frames) -> None:
    enter(ledger(store), judge([labelled], TERMS), TERMS)
    found, notes = enter(ledger(store), judge([labelled], TERMS), TERMS)
    assert (len(found), notes) == (12, [])


def test_data_in_other_units_are_named_with_the_cure(labelled: Frames, tmp_path: Path) -> None:
    bohr = 0.529177
    atomic = replace(labelled, positions=labelled.positions / bohr, cells=labelled.cells / bohr)
    write_frames(atomic, tmp_path / "data", "deepmd/npy")
    with pytest.raises(FrameFileError, match=r"data: lengths are like Bohr.*check_units: false"):
        read_labelled(tmp_path / "data", None, None)
    assert len(read_labelled(tmp_path / "data", None, None, check_units=False)[0]) == 12
