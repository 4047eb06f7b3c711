from __future__ import annotations

import os
import subprocess
from collections import Counter

import numpy as np
import psutil
import pytest
from synthetic_run import SKIPPED, Writer, whole_run

from ionloop.monitor.frames import frames, labels
from ionloop.monitor.records import (
    NotFoundError,
    QueryError,
    UnknownRunError,
    find_run,
    jobs,
    summary,
)
from ionloop.monitor.rows import RunRow
from ionloop.monitor.runs import runs, status
from ionloop.monitor.turns import turns
from ionloop.schemas.job import STORE_INPUTS
from ionloop.schemas.label import LabelStatus, RejectReason
from ionloop.schemas.process import CLOCK_DRIFT
from ionloop.schemas.run import RunState
from ionloop.stores.connect import collection
from ionloop.stores.journal import journal_rows


@pytest.fixture
def writer(store):
    return whole_run(store, n_turns=3)


def test_runs_lists_every_run_with_its_progress(store, writer):
    Writer(store, "agi").begin()
    rows = {row.run: row for row in runs(store)}
    assert set(rows) == {"lgps", "agi"}
    assert rows["lgps"].n_turns == 3
    assert rows["lgps"].n_labels == len(writer.labels) + 5  # of the validation
    assert rows["lgps"].accurate_fraction == writer.turns[-1].accurate_fraction
    assert rows["lgps"].core_hours == pytest.approx(4.5 + 1)
    assert rows["lgps"].standing.state is RunState.COMPLETED
    assert rows["agi"].n_turns == 0
    assert rows["agi"].accurate_fraction is None


@pytest.mark.parametrize("ended", [True, False])
def test_all_runs_and_one_run_agree_on_labels_and_core_hours(store, ended):
    writer = Writer(store, "lgps")
    writer.begin()
    for number in range(2):
        writer.turn(number, 0.3)
    if ended:
        end = writer.end()
    (row,) = runs(store)
    one = status(store, "lgps")
    assert {name: getattr(one, name) for name in RunRow.model_fields} == dict(row)
    last = writer.turns[-1]
    counts = (row.n_labels, row.n_accepted, row.core_hours)
    if ended:
        assert counts == (end.n_labels, end.n_accepted, end.core_hours)
    else:
        assert counts == (len(writer.labels), last.n_training_frames, last.progress.core_hours)
        assert sum(turn.core_hours for turn in one.turns) == pytest.approx(row.core_hours)


def test_a_run_without_a_run_document_is_known_by_its_turns(store, writer):
    collection(store, "runs").remove_docs({})
    assert [row.run for row in runs(store)] == ["lgps"]
    assert len(turns(store, "lgps")) == 3


def test_turns_have_the_numbers_of_their_documents(store, writer):
    rows = turns(store, "lgps")
    assert [row.turn for row in rows] == [0, 1, 2]
    assert [row.counts for row in rows] == [turn.counts for turn in writer.turns]
    assert rows[1].train_rmse == pytest.approx(280)  # mean of 275 and 285
    assert rows[1].validation_rmse == pytest.approx(330)
    assert rows[1].new_label_rmse == pytest.approx(412.5)
    assert rows[1].new_label_rms == 620
    assert [row.core_hours for row in rows] == pytest.approx([0.5, 1.5, 2.5])
    assert rows[0].rejected == {"outlier": 1}
    assert rows[0].n_requested == rows[0].n_accepted + 1
    assert [row.action for row in rows] == ["repeat the stage"] * 2 + ["converged"]
    assert sum(rows[0].fractions) == pytest.approx(1)


NEWER = {
    *("conditions", "unfinished", "n_trajectories", "n_finished", "n_lost", "n_new_labels"),
    *("composition", "last_good"),
}


def as_before(stored):
    """Return what is stored without the fields that the version before did not have."""
    if isinstance(stored, list):
        return [as_before(each) for each in stored]
    if isinstance(stored, dict):
        return {name: as_before(each) for name, each in stored.items() if name not in NEWER}
    return stored


def test_a_run_of_the_version_before_is_shown(store, writer):
    expected = turns(store, "lgps")
    for document in list(store.docs_store.query({})):
        store.docs_store.remove_docs({"uuid": document["uuid"]})
        store.docs_store.update(as_before(document), key=["uuid", "index"])
    rows = turns(store, "lgps")
    assert [row.counts for row in rows] == [row.counts for row in expected]
    assert not rows[0].unfinished
    end = summary(store, "lgps")
    assert end is not None
    assert end.counts[-1].finished_fraction == 1


def test_wall_time_spans_the_jobs_of_a_turn(store, writer):
    # Eight jobs, a minute between two starts, the last one half a minute long.
    assert turns(store, "lgps")[0].wall_seconds == 7 * 60 + 30


def test_the_wall_time_of_a_turn_ends_with_the_turn(store, writer):
    # What jobflow adds to the replacement of a turn's last job waits for the end of the loop.
    before = turns(store, "lgps")[0].wall_seconds
    writer.journal("turn-0", "decide", 0, "completed", name=STORE_INPUTS)
    assert turns(store, "lgps")[0].wall_seconds == before


def test_an_unknown_run_is_answered_with_the_known_ones(store, writer):
    with pytest.raises(NotFoundError, match=r"no run 'lpgs' .* it has lgps"):
        turns(store, "lpgs")


def test_an_empty_store_says_so(store):
    assert runs(store) == []
    with pytest.raises(NotFoundError, match="no runs at all"):
        summary(store, "lgps")


def test_frames_are_all_judged_frames_in_order(store, writer):
    table = frames(store, "lgps")
    assert len(table) == 3 * writer.n_frames
    assert table["iteration"].tolist() == sorted(table["iteration"].tolist())
    counted = Counter(table["verdict"].tolist())
    for verdict in ("accurate", "candidate", "failed", "skipped"):
        assert counted[verdict] == sum(getattr(turn.counts, verdict) for turn in writer.turns)


def test_frames_filter(store, writer):
    table = frames(store, "lgps", iteration=1, verdict="candidate", temperature=600)
    assert 0 < len(table) < writer.turns[1].counts.candidate
    assert set(table["temperature"].tolist()) == {600.0}
    assert set(table["iteration"].tolist()) == {1}
    assert len(frames(store, "lgps", verdict="skipped")) == 3 * SKIPPED
    over = frames(store, "lgps", reason="OVER max")
    assert set(over["reason"].tolist()) == {"over max_labels"}
    assert len(frames(store, "lgps", temperature=450)) == 0
    with pytest.raises(QueryError, match="no frames of turn 9 yet"):
        frames(store, "lgps", iteration=9)


def test_limit_takes_the_first_frames_over_all_turns(store, writer):
    n = writer.n_frames + 7
    table = frames(store, "lgps", limit=n)
    assert table["iteration"].tolist() == [0] * writer.n_frames + [1] * 7


def test_picked_frames_have_the_fate_of_their_label(store, writer):
    table = frames(store, "lgps", reason="picked")
    status = {label.frame_id: label.status.value for label in writer.labels}
    assert table["label"].tolist() == [status[i] for i in table["frame_id"].tolist()]
    assert Counter(table["label_reason"].tolist())["outlier"] == 3
    others = frames(store, "lgps", reason="over max")
    assert set(others["label"].tolist()) == {""}


def test_the_fate_of_a_label_of_another_run_is_by_the_limits_of_this_one(store, writer):
    ledger, outputs = collection(store, "labels"), store.docs_store
    picked = frames(store, "lgps", reason="picked")["frame_id"].tolist()
    used, unused = (
        next(each for each in writer.labels if each.reason is reason and each.frame_id in picked)
        for reason in (None, RejectReason.OUTLIER)
    )
    strict = {"status": LabelStatus.REJECTED, "reason": RejectReason.OUTLIER}
    wide = {"status": LabelStatus.ACCEPTED, "reason": None}
    theirs = [used.model_copy(update=strict), unused.model_copy(update=wide)]
    ledger.update([each.model_dump(mode="json") for each in theirs], key="label_id")
    account = outputs.query_one({"output.@class": "Labels"})
    account["output"]["rejections"] = [{"frame_id": unused.frame_id, "reason": "outlier"}]
    outputs.update([account], key=["uuid", "index"])
    table = frames(store, "lgps", reason="picked")
    assert table["label"][table["frame_id"] == used.frame_id].tolist() == ["accepted"]
    assert table["label"][table["frame_id"] == unused.frame_id].tolist() == ["rejected"]


def test_a_lost_label_is_missing_and_another_level_does_not_count(store, writer):
    lost = writer.labels[-1]
    ledger = collection(store, "labels")
    ledger.remove_docs({"label_id": lost.label_id})
    other = lost.model_copy(update={"level": "0123456789ab"})
    ledger.update([other.model_dump(mode="json")], key="label_id")
    table = frames(store, "lgps")
    assert table["label"][table["frame_id"] == lost.frame_id].tolist() == ["missing"]


def test_an_unknown_verdict_is_answered_with_the_known_ones(store, writer):
    with pytest.raises(QueryError, match="accurate, candidate, failed, skipped"):
        frames(store, "lgps", verdict="good")


def test_a_table_takes_as_many_queries_for_many_frames_as_for_few(store, monkeypatch):
    whole_run(store, "few", n_turns=2, n_frames=50, n_picks=3)
    whole_run(store, "many", n_turns=2, n_frames=5000, n_picks=300)
    kind, asked = type(store.docs_store), Counter()
    real = kind.query

    def counted(self, *args, **options):
        asked[run] += 1
        return real(self, *args, **options)

    monkeypatch.setattr(kind, "query", counted)
    for run, n_frames in (("few", 100), ("many", 10_000)):
        assert len(frames(store, run)) == n_frames
    assert asked["many"] == asked["few"] > 0


def test_queries_load_no_blob_they_do_not_need(store, writer, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a blob was loaded")

    monkeypatch.setattr(collection(store, "data"), "query", refuse)
    runs(store)
    turns(store, "lgps")
    jobs(store, "lgps")
    summary(store, "lgps")
    labels(store, "lgps")


def test_labels_by_status_reason_and_species(store, writer):
    rejected = labels(store, "lgps", status="rejected")
    assert [row.reason for row in rejected] == ["outlier"] * 3
    assert {row.iteration for row in rejected} == {0, 1, 2}
    accepted = [x for x in writer.labels if x.status is LabelStatus.ACCEPTED]
    assert len(labels(store, "lgps", status="accepted")) == len(accepted)
    assert len(labels(store, "lgps", species=["S", "Li"])) == len(writer.labels)
    assert labels(store, "lgps", species=["S", "Ge"]) == []
    assert labels(store, "lgps", reason="unconverged") == []


def test_jobs_are_counted_by_role_and_state(store, writer):
    writer.journal("run-1", "train", 3, "running", host="oak", pid=12)
    sentence = "explore failed: FloorError: 0 of 8 trajectories"
    writer.journal("bad-1", "explore", 3, "failed", error={"summary": sentence}, folder="/x/y")
    overview = jobs(store, "lgps")
    assert overview.counts["train"] == {"completed": 3 * 3 + 2, "running": 1}
    assert overview.by_state["failed"] == 1
    assert [(job.name, job.iteration, job.worker) for job in overview.running] == [
        ("train", 3, "oak")
    ]
    assert (overview.failed[0].error, overview.failed[0].folder) == (sentence, "/x/y")


def test_summary_of_a_run_that_ended(store, writer):
    end = summary(store, "lgps")
    assert end is not None
    assert end.n_turns == 3
    assert end.validation is not None
    assert end.validation.errors.force_mev_per_angstrom == 110
    assert "converged after 3 turn(s)" in status(store, "lgps").standing.sentence


@pytest.fixture
def unfinished(store):
    writer = Writer(store, "lgps")
    writer.begin()
    writer.turn(0, 0.5)
    return writer


def test_standing_while_the_runner_lives(store, unfinished):
    unfinished.set_runner_here()
    unfinished.journal("run-1", "train", 1, "running")
    found = status(store, "lgps").standing
    assert found.state is RunState.RUNNING
    assert found.sentence.endswith("is at work on turn 1: 1 train")
    assert found.cure == ""


def test_standing_from_rows_that_are_given(store, unfinished, monkeypatch):
    unfinished.set_runner_here()
    unfinished.journal("run-1", "train", 1, "running")
    rows = journal_rows(store, "lgps")
    monkeypatch.setattr(collection(store, "jobs"), "query", lambda *_, **__: pytest.fail("read"))
    assert status(store, "lgps", rows).standing.sentence.endswith("at work on turn 1: 1 train")


def test_standing_when_the_runner_was_killed(store, unfinished):
    unfinished.set_runner_here()
    runner = collection(store, "runs").query_one({"run": "lgps"})["runner"]
    unfinished.set_runner(runner["pid"], runner["process_created"] - 1000)  # the id, used again
    found = status(store, "lgps").standing
    assert found.state is RunState.INTERRUPTED
    assert f"process {runner['pid']} on {runner['host']}) is gone" in found.sentence
    assert found.cure == "ionloop resume lgps"


def test_a_runner_whose_clock_was_set_still_lives(store, unfinished):
    # By the one rule of all who ask: the lock of the runner takes it for alive, so does the status.
    unfinished.set_runner_here()
    runner = collection(store, "runs").query_one({"run": "lgps"})["runner"]
    unfinished.set_runner(runner["pid"], runner["process_created"] - CLOCK_DRIFT / 2)
    assert status(store, "lgps").standing.state is RunState.RUNNING


def test_a_runner_that_nobody_buried_is_gone(store, unfinished):
    with subprocess.Popen(["true"]) as dead:
        created = psutil.Process(dead.pid).create_time()
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
        unfinished.set_runner(dead.pid, created)
        assert status(store, "lgps").standing.state is RunState.INTERRUPTED


def test_a_silent_runner_on_another_host_is_gone(store, unfinished):
    unfinished.set_runner(1, 0.0, host="elsewhere")
    assert status(store, "lgps").standing.state is RunState.INTERRUPTED


def test_standing_after_a_failure(store, unfinished):
    sentence = "collect failed: FloorError: 1 of 4 trainings succeeded"
    unfinished.journal("bad-1", "train", 1, "failed", error={"summary": sentence})
    found = status(store, "lgps").standing
    assert found.state is RunState.FAILED
    assert sentence in found.sentence
    assert found.cure == "ionloop resume lgps --retry-failed"


def test_standing_after_a_stop_on_request(store, unfinished):
    unfinished.journal("wait-1", "train", 1, "waiting")
    assert status(store, "lgps").standing.state is RunState.INTERRUPTED


def contents(store):
    """Return all documents as text: a server only estimates how many there are."""
    collections = [store.docs_store, *store.additional_stores.values()]
    return [sorted(str(document) for document in each.query()) for each in collections]


def test_nothing_is_written_by_looking(store, writer):
    before = contents(store)
    runs(store)
    frames(store, "lgps")
    jobs(store, "lgps")
    assert contents(store) == before
    assert np.isfinite(frames(store, "lgps")["max_devi_f"]).all()


def test_a_cancelled_run_is_cancelled_and_not_to_be_resumed(store, unfinished):
    records = collection(store, "runs")
    records.update([records.query_one({"run": "lgps"}) | {"state": "cancelled"}], key="run")
    found = status(store, "lgps").standing
    assert (found.state, found.cure) == (RunState.CANCELLED, "")
    assert "cancelled before its end" in found.sentence


def test_the_latest_run_is_found_without_its_name(store, writer):
    Writer(store, "agi").begin()
    records = collection(store, "runs")
    later = {"started": "2099-01-01T00:00:00Z"}
    records.update([records.query_one({"run": "agi"}) | later], key="run")
    assert find_run(store).run == "agi"
    assert find_run(store, "lgps").run == "lgps"
    with pytest.raises(UnknownRunError, match=r"no run 'lpgs' .* it has agi, lgps"):
        find_run(store, "lpgs")


def test_an_empty_store_has_no_latest_run(store):
    with pytest.raises(UnknownRunError, match="start one with: ionloop run"):
        find_run(store)
