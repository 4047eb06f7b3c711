"""The ledger: under which key a label is kept and found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobflow import JobStore
from pymongo.errors import AutoReconnect

from ionloop.codes.common.acceptance import AcceptanceLimits, Terms, accept
from ionloop.jobs.label.accounts import account
from ionloop.jobs.label.imports import calculated
from ionloop.jobs.label.ledger import Ledger
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, LevelOfTheory
from ionloop.stores import server

GOLD = {"Au": {"setup": "paw"}}
COPPER = {"Cu": {"setup": "paw"}}
DOPANT = {"Ti": {"setup": "paw"}}


def level(*elements: dict[str, dict[str, str]], former: tuple[str, ...] = ()) -> LevelOfTheory:
    merged = {symbol: about for part in elements for symbol, about in part.items()}
    settings = {"xc": "PBE"}
    return LevelOfTheory(code="gpaw", settings=settings, elements=merged, former=list(former))


def labelled(frames: Frames) -> Frames:
    f, n = len(frames), frames.n_atoms
    return replace(frames, energies=np.arange(float(f)), forces=np.zeros((f, n, 3)))


def entries(frames: Frames, of: LevelOfTheory) -> list[LabelDoc]:
    singles = map(labelled(frames).__getitem__, range(len(frames)))
    return [accept(frame, calculated(frame), of, AcceptanceLimits()) for frame in singles]


@pytest.fixture
def ledger(store: JobStore) -> Ledger:
    return Ledger(store.additional_stores["labels"])


def test_a_dopant_in_the_settings_buys_no_label_anew(ledger: Ledger, gold_copper: Frames) -> None:
    ledger.record(entries(gold_copper, level(GOLD, COPPER)))
    found = ledger.settled(gold_copper.ids, Terms(level=level(GOLD, COPPER, DOPANT)))
    assert set(found) == set(gold_copper.ids)
    assert ledger.count(gold_copper.ids, level(GOLD, COPPER, DOPANT)) == 12
    assert not ledger.find(gold_copper.ids, level(GOLD, {"Cu": {"setup": "11"}}))


def test_a_label_kept_by_an_earlier_version_is_found(ledger: Ledger, gold_copper: Frames) -> None:
    old = LevelOfTheory(code="gpaw", settings={"xc": "PBE", "setups": "paw"})
    ledger.record(entries(gold_copper[:4], old))
    today = level(GOLD, COPPER, former=(old.hash,))
    assert set(ledger.settled(gold_copper.ids, Terms(level=today))) == set(gold_copper.ids[:4])
    assert ledger.count(gold_copper.ids, today) == 4
    assert not ledger.find(gold_copper.ids, level(GOLD, COPPER))


def test_todays_label_goes_before_a_former_one(ledger: Ledger, gold_copper: Frames) -> None:
    old = LevelOfTheory(code="gpaw", settings={"xc": "PBE", "setups": "paw"})
    today = level(GOLD, COPPER, former=(old.hash,))
    ledger.record(entries(gold_copper[:1], today))
    ledger.record(entries(gold_copper[:1], old))
    assert ledger.find(gold_copper.ids, today)[gold_copper.ids[0]].level != old.hash
    assert ledger.count(gold_copper.ids, today) == 1


def test_frames_of_a_data_set_are_of_its_level_whatever_their_elements(
    ledger: Ledger, gold_copper: Frames
) -> None:
    gold = replace(gold_copper[:2], symbols=("Au",) * 8)
    whole = level(GOLD, COPPER)
    ledger.record(entries(gold_copper, whole))
    ledger.record(entries(gold, whole))
    wanted = [*gold_copper.ids, *gold.ids]
    found = ledger.find(wanted, whole)
    assert len({label.level for label in found.values()}) == 2
    labels = account(whole, wanted, found, calculated=set())
    assert {part.level for part in labels.frames} == {whole.hash}


def test_export_finds_labels_by_the_elements_of_their_frames(
    store: JobStore, ledger: Ledger, gold_copper: Frames, tmp_path: Path
) -> None:
    from ionloop.export import frames as export
    from ionloop.schemas.dataset import DatasetDoc, dataset_hash
    from ionloop.schemas.label import Labels

    whole = level(GOLD, COPPER, DOPANT)
    ledger.record(entries(gold_copper, whole))
    labels = Labels(level=whole, n_requested=12, n_accepted=12)
    output = {"@class": "Labels", **labels.model_dump(mode="json")}
    store.docs_store.update({"uuid": "a", "index": 1, "metadata": {"run": "r"}, "output": output})
    dataset = DatasetDoc(
        level=whole.hash,
        training=list(gold_copper.ids),
        validation=[],
        sha256=dataset_hash(whole.hash, list(gold_copper.ids)),
    )
    found = export._labels(store, "r", dataset)
    assert {label.frame.level for label in found.values()} == {whole.hash}


@pytest.mark.parametrize("arrived", [True, False])
def test_a_label_whose_write_broke_with_the_connection_is_written_again(
    store: JobStore,
    ledger: Ledger,
    gold_copper: Frames,
    monkeypatch: pytest.MonkeyPatch,
    arrived: bool,
) -> None:
    """A standalone server cannot say whether a write that was on its way arrived."""
    labels = store.additional_stores["labels"]
    update, broken = labels.update, [True]

    def breaking(*arguments: Any, **named: Any) -> None:
        if arrived or not broken:
            update(*arguments, **named)
        if broken and broken.pop():
            raise AutoReconnect("connection closed")

    monkeypatch.setattr(labels, "update", breaking)
    monkeypatch.setattr(server, "PAUSE", 0.0)
    ledger.record(entries(gold_copper[:2], level(GOLD)))
    assert set(ledger.find(gold_copper.ids, level(GOLD))) == set(gold_copper.ids[:2])
    assert labels.count() == 2
