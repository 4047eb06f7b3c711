from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobflow import JobStore, run_locally

from ionloop.codes.common.ase import calculate
from ionloop.codes.external.settings import ExternalSettings
from ionloop.codes.forcefield.model import calculator
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.formats.reading import read_frames
from ionloop.formats.writing import write_frames
from ionloop.jobs.label.external import (
    ExternalLabelMaker,
    Imported,
    WaitingForLabelsError,
    import_labels,
)
from ionloop.jobs.label.ledger import Ledger
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.label import Labels, RejectReason
from ionloop.schemas.run import WAITING

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")

EMT = calculator(ForceFieldSettings(model="ase.calculators.emt:EMT"))


def maker(folder: Path, **given: Any) -> ExternalLabelMaker:
    settings = ExternalSettings(level="EMT", folder=folder / "to_label", **given)
    return ExternalLabelMaker(settings=settings)


def run(labeller: ExternalLabelMaker, frames: Frames, store: JobStore) -> Labels | None:
    flow = labeller.make([frames])
    flow.update_metadata({"run": "toy"}, dynamic=True)
    run_locally(flow, store=store, log=False, allow_external_references=True)
    if store.query_one({"name": "account for labels"}) is None:
        return None
    labels: Labels = flow.output.resolve(store)
    return labels


def ledger(store: JobStore) -> Ledger:
    return Ledger(store.additional_stores["labels"])


def calculated(frames: Frames) -> Frames:
    results = [calculate(EMT, frames[index]) for index in range(len(frames))]
    return Frames(
        frames.symbols,
        frames.positions,
        frames.cells,
        np.array([result.energy for result in results]),
        np.array([result.forces for result in results]),
        np.array([result.virial for result in results]),
    )


def offer(
    store: JobStore, labeller: ExternalLabelMaker, path: Path, frames: Frames | list[Frames]
) -> Imported:
    write_frames(frames, path, "extxyz")
    return import_labels(ledger(store), labeller.settings, "toy", [path])


def test_the_run_waits_takes_labels_and_goes_on(
    store: JobStore, gold_copper: Frames, tmp_path: Path
) -> None:
    labeller = maker(tmp_path)
    assert run(labeller, gold_copper, store) is None
    folder = tmp_path / "to_label" / "toy" / "initial"
    assert len(list(folder.glob("*.vasp"))) == 12
    (asked,) = read_frames(folder / "frames.extxyz")

    report = offer(store, labeller, tmp_path / "part.extxyz", calculated(asked[:5]))
    assert (len(report.accepted), report.n_missing) == (5, 7)
    assert run(labeller, gold_copper, store) is None
    (asked,) = read_frames(folder / "frames.extxyz")
    assert len(asked) == 7

    report = offer(store, labeller, tmp_path / "rest.extxyz", calculated(asked))
    assert (len(report.accepted), report.n_missing) == (7, 0)
    labels = run(labeller, gold_copper, store)
    assert labels is not None
    assert (labels.n_requested, labels.n_accepted) == (12, 12)
    expected = calculated(gold_copper)
    order = [labels.frames[0].ids.index(i) for i in gold_copper.ids]
    assert labels.frames[0].forces is not None and expected.forces is not None
    assert np.allclose(labels.frames[0].forces[order], expected.forces, atol=1e-7)
    assert labels.frames[0].level == labeller.level.hash


def test_above_the_floor_the_run_goes_on_without_the_rest(
    store: JobStore, gold_copper: Frames, tmp_path: Path
) -> None:
    labeller = maker(tmp_path)
    run(labeller, gold_copper, store)
    offer(store, labeller, tmp_path / "most.extxyz", calculated(gold_copper[:11]))
    labels = run(labeller, gold_copper, store)
    assert labels is not None
    assert labels.rejected_by_reason == {"no result": 1}
    assert "waits for its label" in labels.rejections[0].detail


def test_unmatched_duplicate_and_unreadable_are_named(
    store: JobStore, gold_copper: Frames, tmp_path: Path
) -> None:
    labeller = maker(tmp_path)
    run(labeller, gold_copper[:4], store)
    mixed = calculated(gold_copper[[0, 0, 9]])
    write_frames(gold_copper[1], tmp_path / "bare.extxyz", "extxyz")
    write_frames(mixed, tmp_path / "mixed.extxyz", "extxyz")
    paths = [tmp_path / name for name in ("mixed.extxyz", "bare.extxyz", "absent.extxyz")]
    report = import_labels(ledger(store), labeller.settings, "toy", paths)
    assert report.accepted == [gold_copper.ids[0]]
    assert report.duplicates == [f"{paths[0]}, frame 2: frame {gold_copper.ids[0]} has its label"]
    assert report.unmatched == [f"{paths[0]}, frame 3"]
    assert "without energies and forces" in report.unreadable[0]
    assert "absent.extxyz does not exist" in report.unreadable[1]
    assert report.n_missing == 3


def test_an_outlier_is_rejected_for_good(
    store: JobStore, gold_copper: Frames, tmp_path: Path
) -> None:
    labeller = maker(tmp_path, limits={"max_force": 1e-3})
    run(labeller, gold_copper[:1], store)
    report = offer(store, labeller, tmp_path / "one.extxyz", calculated(gold_copper[:1]))
    assert [each.reason for each in report.rejected] == [RejectReason.OUTLIER]
    assert report.n_missing == 0


def test_an_imported_label_belongs_to_the_turn_that_asked(
    store: JobStore, gold_copper: Frames, tmp_path: Path
) -> None:
    labeller = maker(tmp_path)
    flow = labeller.make([gold_copper[:2]])
    flow.update_metadata({"run": "toy", "iteration": 3}, dynamic=True)
    run_locally(flow, store=store, log=False, allow_external_references=True)
    assert (tmp_path / "to_label" / "toy" / "turn-3" / "frames.extxyz").exists()
    offer(store, labeller, tmp_path / "a.extxyz", concatenate([calculated(gold_copper[:2])]))
    labels = ledger(store).of_run("toy", labeller.level)
    assert {(label.run, label.iteration, label.reason) for label in labels} == {("toy", 3, None)}


def test_it_does_not_relax(gold_copper: Frames, tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match=r"initial\.relax"):
        maker(tmp_path).relax([gold_copper])


def test_the_monitor_knows_the_error_by_its_name() -> None:
    assert WaitingForLabelsError.__name__ == WAITING
