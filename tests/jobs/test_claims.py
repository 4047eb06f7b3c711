"""Claims: of two who want one label, one calculates it, on any store and after any death."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from jobflow import JobStore

from ionloop.codes.common.acceptance import Calculated, Terms, accept, failed
from ionloop.jobs.label import batches as label_module
from ionloop.jobs.label import claims, ledger
from ionloop.jobs.label.claims import Claims
from ionloop.jobs.label.ledger import Ledger
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, LevelOfTheory
from ionloop.stores.connect import collection, open_store, write_if

TERMS = Terms(level=LevelOfTheory(code="toy", settings={}))


@pytest.fixture(params=["embedded", "mongo"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[JobStore]:
    if request.param == "embedded":
        opened = open_store(tmp_path / "ionloop.db")
        yield opened
        opened.close()
        return
    uri = os.environ.get("IONLOOP_TEST_MONGO_URI")
    if not uri:
        pytest.skip("IONLOOP_TEST_MONGO_URI names no MongoDB server")
    opened = open_store(f"{uri}/ionloop_claims_{uuid.uuid4().hex[:8]}")
    docs: Any = opened.docs_store
    try:
        yield opened
    finally:
        docs._collection.database.client.drop_database(docs.database)
        opened.close()


def held(store: JobStore) -> Claims:
    return Claims(collection(store, "claims"))


def open_ledger(store: JobStore) -> Ledger:
    return Ledger(collection(store, "labels"), held(store))


def label(frame: Frames) -> LabelDoc:
    forces = frame.positions[0] * 0
    return accept(frame, Calculated(-1.0, forces), TERMS.level, TERMS.limits)


def singles(frames: Frames) -> list[Frames]:
    return [frames[index] for index in range(len(frames))]


def test_a_document_is_written_only_where_nobody_else_has_its_key(store: JobStore) -> None:
    part = collection(store, "claims")
    assert write_if(part, {"label_id": "x", "token": "a"}, {"token": "a"})
    assert not write_if(part, {"label_id": "x", "token": "b"}, {"token": "b"})
    assert write_if(part, {"label_id": "x", "token": "c"}, {"token": "a"})
    assert [each["token"] for each in part.query({"label_id": "x"})] == ["c"]


def test_a_label_is_claimed_by_one(store: JobStore) -> None:
    with held(store).claimed("x") as first, held(store).claimed("x") as second:
        assert (first, second) == (True, False)
        assert held(store).held(["x", "y"]) == {"x"}
    with held(store).claimed("x") as again:
        assert again


def test_of_two_who_want_the_same_frames_each_takes_what_the_other_does_not_calculate(
    store: JobStore, gold_copper: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "POLL_SECONDS", 0.01)
    frames = singles(gold_copper[:4])
    one, other = open_ledger(store), open_ledger(store)
    mine = one.to_calculate(frames, TERMS)
    theirs = other.to_calculate(frames, TERMS)
    taken = [next(mine), next(theirs)]
    assert [frame.ids[0] for frame in taken] == list(gold_copper.ids[:2])
    assert other.being_calculated(frames, TERMS.level) == set(gold_copper.ids[:2])
    assert one.count(gold_copper.ids, TERMS.level) == 0
    one.record([label(taken[0])])
    other.record([label(taken[1])])
    third = next(mine)
    one.record([label(third)])
    fourth = next(theirs)
    other.record([label(fourth)])
    assert {third.ids[0], fourth.ids[0]} == set(gold_copper.ids[2:4])
    assert [*mine, *theirs] == []
    assert one.count(gold_copper.ids, TERMS.level) == 4
    assert one.being_calculated(frames, TERMS.level) == set()


def test_a_label_that_another_run_finishes_while_frames_are_spread_stays(
    store: JobStore, gold_copper: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, mine = singles(gold_copper[:3]), open_ledger(store)
    lost = failed(frames[0], TERMS.level, RuntimeError("it crashed"))
    mine.record([lost])

    def meanwhile(frames: list[Frames], terms: Terms) -> list[str]:
        open_ledger(store).record([label(frames[1])])
        return [frame.ids[0] for frame in frames]

    monkeypatch.setattr(label_module, "current_ledger", lambda: mine)
    monkeypatch.setattr(label_module, "without_twins", meanwhile)
    missing = label_module._missing(TERMS, frames)
    assert set(missing) == {frame.ids[0] for frame in frames}
    assert set(mine.find(missing, TERMS.level)) == {frames[1].ids[0]}


def test_the_claim_of_a_killed_process_is_taken_over_at_once(store: JobStore) -> None:
    part = collection(store, "claims")
    with held(store).claimed("x"):
        (claim,) = part.query({"label_id": "x"})
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    part.update({**claim, "pid": gone.pid})
    with held(store).claimed("x") as ours:
        assert ours


def test_a_claim_from_another_host_is_dead_when_it_has_been_silent(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    part = collection(store, "claims")
    elsewhere = {"machine": "another host", "pid": 1, "process_created": 0.0, "job": "a"}
    claim = {"label_id": "x", "token": "t", "beat": 7, **elsewhere}
    part.update(claim)
    watcher = held(store)

    def is_ours_after(seconds: float) -> bool:
        now[0] += seconds
        with watcher.claimed("x") as ours:
            return ours

    assert not is_ours_after(0.0)
    assert not is_ours_after(claims.SILENT_SECONDS - 1)
    part.update({**claim, "beat": 8})
    assert not is_ours_after(claims.SILENT_SECONDS - 1)
    assert not is_ours_after(claims.SILENT_SECONDS - 1)
    assert is_ours_after(2.0)


def test_a_claim_beats_while_its_label_is_calculated(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
    part = collection(store, "claims")
    with held(store).claimed("x"):
        while next(iter(part.query({"label_id": "x"})))["beat"] < 2:
            pass
    assert part.count({}) == 0
