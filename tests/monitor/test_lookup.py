from __future__ import annotations

import pytest
from synthetic_run import whole_run

from ionloop.monitor import lookup
from ionloop.monitor.lookup import AmbiguousKeyError, document
from ionloop.monitor.records import NotFoundError


@pytest.fixture
def writer(store):
    return whole_run(store, n_turns=2)


def test_a_run_by_its_id(store, writer):
    found = document(store, "lgps")
    assert (found.kind, found.content["host"]) == ("run", "oak")


def test_a_job_by_its_uuid_or_the_beginning_of_it(store, writer):
    uuid = writer.references[0].uuid
    for key in (uuid, uuid[:13]):
        found = document(store, key)
        assert (found.kind, found.key) == ("job", uuid)
        assert found.content["outputs"][0]["output"]["@class"] == "Labels"
        assert found.content["journal"][0]["state"] == "completed"
        assert "job" not in found.content["journal"][0]


def test_a_failed_job_is_found_though_it_has_no_output(store, writer):
    error = {"summary": "train failed: it broke", "traceback": "Traceback ..."}
    writer.journal("feedbeef-0000", "train", 1, "failed", error=error)
    found = document(store, "feedbeef")
    assert found.content["outputs"] == []
    assert found.content["journal"][0]["error"] == error


def test_arrays_are_named_not_printed(store, writer):
    ensemble = writer.turns[0].ensemble
    member = store.docs_store.query_one({"uuid": ensemble.uuid})["output"]["members"][0]
    output = document(store, member["uuid"]).content["outputs"][0]["output"]
    assert output["model"]["packed"].startswith("in the blob store, ")
    assert output["model"]["size"] == len(writer.models[0])


def test_a_label_by_its_id(store, writer):
    label = writer.labels[25]
    found = document(store, label.label_id)
    assert (found.kind, found.content["frame_id"]) == ("label", label.frame_id)
    assert found.content["frame"]["formula"] == "Li4P1S3"
    assert found.content["frame"]["packed"].startswith("arrays, ")


def test_a_frame_has_its_verdict_and_its_labels(store, writer):
    label = next(x for x in writer.labels if x.iteration == 1)
    found = document(store, label.frame_id[:12])
    assert (found.kind, found.key) == ("frame", label.frame_id)
    (verdict,) = found.content["verdicts"]
    assert (verdict["iteration"], verdict["verdict"]) == (1, "candidate")
    assert [row["status"] for row in found.content["labels"]] == ["rejected"]


def test_a_candidate_that_was_never_labelled_is_found(store, writer):
    frame_id = writer.candidates[0].ids[-1]
    found = document(store, frame_id)
    assert found.content["verdicts"][0]["reason"] == "over max_labels"
    assert found.content["labels"] == []


def test_an_unknown_key(store, writer):
    with pytest.raises(NotFoundError, match=r"nothing in .* is called 'zzzz'"):
        document(store, "zzzz")


def test_a_beginning_that_fits_several(store, writer, monkeypatch):
    monkeypatch.setattr(lookup, "SHORTEST", 0)
    with pytest.raises(AmbiguousKeyError, match=r"fits \d+ jobs: .*give more"):
        document(store, "")
