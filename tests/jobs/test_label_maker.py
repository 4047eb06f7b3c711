from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jobflow import Flow, JobStore, run_locally

from ionloop.codes.common.acceptance import AcceptanceLimits
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.formats.writing import write_frames
from ionloop.jobs.label.accounts import account, check_floor
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.label.imports import ingest
from ionloop.jobs.label.ledger import Ledger
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels, LabelStatus, LevelOfTheory, RejectReason

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")


def maker(batch_size: int = 5, floor: float = 0.9, **options: Any) -> ForceFieldLabelMaker:
    settings = ForceFieldSettings(model="toy_labeller:ToyLabeller", options=options)
    return ForceFieldLabelMaker(settings=settings, batch_size=batch_size, floor=floor)


def labels_of(flow: Flow, store: JobStore) -> Labels:
    run_locally(flow, store=store, log=False, allow_external_references=True)
    labels: Labels = flow.output.resolve(store)
    return labels


def ledger(store: JobStore) -> Ledger:
    return Ledger(store.additional_stores["labels"])


def test_every_frame_is_labelled_once(toy: Path, store: JobStore, gold_copper: Frames) -> None:
    labels = labels_of(maker().make([gold_copper]), store)
    assert (labels.n_requested, labels.n_accepted, labels.n_reused) == (12, 12, 0)
    assert labels.frames[0].ids == gold_copper.ids
    assert labels.frames[0].level == maker().level.hash
    assert len(toy.read_text().splitlines()) == 12


def test_bought_labels_are_not_bought_again(
    toy: Path, store: JobStore, gold_copper: Frames
) -> None:
    labels_of(maker().make([gold_copper[:8]]), store)
    labels = labels_of(maker(batch_size=2).make([gold_copper]), store)
    assert (labels.n_accepted, labels.n_reused) == (12, 8)
    assert len(toy.read_text().splitlines()) == 12


def test_another_level_is_another_label(toy: Path, store: JobStore, gold_copper: Frames) -> None:
    labels_of(maker().make([gold_copper]), store)
    other = labels_of(maker(seconds=0.001).make([gold_copper]), store)
    assert other.n_reused == 0
    assert len(toy.read_text().splitlines()) == 24


def test_a_frame_requested_twice_counts_once(
    toy: Path, store: JobStore, gold_copper: Frames
) -> None:
    labels = labels_of(maker().make([gold_copper, gold_copper[:3]]), store)
    assert labels.n_requested == labels.n_accepted == 12


def test_nan_is_rejected_for_good(toy: Path, store: JobStore, gold_copper: Frames) -> None:
    labels = labels_of(maker(floor=0.0, nan_every=3).make([gold_copper]), store)
    assert 0 < len(labels.rejections) < 12
    assert labels.n_accepted + len(labels.rejections) == 12
    assert {r.reason for r in labels.rejections} == {RejectReason.NON_FINITE}
    calculated = len(toy.read_text().splitlines())
    labels_of(maker(floor=0.0, nan_every=3).make([gold_copper]), store)
    assert len(toy.read_text().splitlines()) == calculated
    stored = ledger(store).find(gold_copper.ids, labels.level)
    assert sum(label.status is LabelStatus.REJECTED for label in stored.values()) == len(
        labels.rejections
    )


def test_reused_labels_are_judged_by_the_limits_of_the_run_at_hand(
    toy: Path, store: JobStore, gold_copper: Frames
) -> None:
    def limited(**limits: Any) -> Labels:
        settings = maker().settings.model_copy(update={"limits": AcceptanceLimits(**limits)})
        flow = ForceFieldLabelMaker(settings=settings, floor=0.0).make([gold_copper])
        return labels_of(flow, store)

    assert limited(energy_window=(50.0, 60.0)).rejected_by_reason == {"outlier": 12}
    assert limited().n_accepted == 12
    assert limited(max_force=1e-3).rejected_by_reason == {"outlier": 12}
    assert len(toy.read_text().splitlines()) == 12


def test_a_raising_labeller_costs_one_frame_and_is_asked_again(
    toy: Path, store: JobStore, gold_copper: Frames
) -> None:
    failing = maker(floor=0.0, raise_every=3)
    labels = labels_of(failing.make([gold_copper]), store)
    lost = {r.frame_id for r in labels.rejections}
    assert 0 < len(lost) < 12
    assert labels.rejected_by_reason == {"labeller failed": len(lost)}
    assert "asked to fail" in labels.rejections[0].detail
    assert set(ledger(store).settled(gold_copper.ids, failing.terms)) == (
        set(gold_copper.ids) - lost
    )


def test_too_few_labels_stop_the_step(toy: Path, store: JobStore, gold_copper: Frames) -> None:
    flow = maker(floor=0.9, nan_every=1).make([gold_copper])
    run_locally(flow, store=store, log=False)
    assert store.query_one({"name": "account for labels"}) is None


def test_the_floor_says_what_was_rejected(gold_copper: Frames) -> None:
    level = LevelOfTheory(code="toy", settings={})
    labels = account(level, list(gold_copper.ids), {}, calculated=set(gold_copper.ids))
    with pytest.raises(RuntimeError, match=r"0 of 12 labels.*label\.floor.*12 no result"):
        check_floor(labels, 0.9)


def test_nothing_requested_is_nothing_labelled(toy: Path, store: JobStore) -> None:
    labels = labels_of(maker().make([]), store)
    assert (labels.n_requested, labels.n_accepted, labels.frames) == (0, 0, [])


def test_existing_data_enter_the_ledger(
    toy: Path, store: JobStore, gold_copper: Frames, tmp_path: Path
) -> None:
    bought = labels_of(maker().make([gold_copper]), store)
    write_frames(bought.frames, tmp_path / "data", "deepmd/npy")
    job = ingest([str(tmp_path / "data")], None, None, LevelOfTheory(code="x", settings={}))
    job.metadata["run"] = "r"
    labels = labels_of(Flow([job], output=job.output), store)
    assert (labels.n_requested, labels.n_accepted) == (12, 12)
    found = ledger(store).find(gold_copper.ids, labels.level)
    assert len(found) == 12
    assert {label.run for label in found.values()} == {"r"}
    # Nobody knows what they come from: those in a row stand on one side of the split.
    assert {label.frame.groups for label in found.values()} == {gold_copper.ids[:1]}


def test_unlabelled_data_are_refused(gold_copper: Frames, tmp_path: Path) -> None:
    from ionloop.jobs.label.imports import read_labelled

    write_frames(gold_copper[:1], tmp_path / "a.extxyz", "extxyz")
    with pytest.raises(ValueError, match=r"a\.extxyz holds frames without energies"):
        read_labelled(tmp_path / "a.extxyz", None, None)


def test_jobs_that_version_0_1_stored_with_settings_alone_still_run(
    store: JobStore, gold_copper: Frames
) -> None:
    from ionloop.makers.label import (  # type: ignore[import-untyped]
        label_with_force_field,
        relax_with_force_field,
    )

    settings = ForceFieldSettings(model="ase.calculators.emt:EMT", relax_fmax=0.3)
    ids = gold_copper.ids[:2]
    label = label_with_force_field(settings, [gold_copper[:2]], ids)
    relax = relax_with_force_field(settings, [gold_copper[:1]])
    for job in (label, relax):
        run_locally(Flow([job]), store=store, log=False, ensure_success=True)
    assert store.query_one({"uuid": label.uuid})["output"]["n_calculated"] == 2
    maker = ForceFieldLabelMaker(settings=settings)
    assert set(Ledger(store.additional_stores["labels"]).settled(ids, maker.terms)) == set(ids)
    (relaxed,) = relax.output.resolve(store)
    assert relaxed == relaxed.snapped()
