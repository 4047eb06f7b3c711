from __future__ import annotations

import numpy as np
import pytest

from ionloop.schemas.document import Document
from ionloop.schemas.frames import Frames
from ionloop.schemas.selection import SelectionDoc, TrustWindow
from ionloop.schemas.table import Table
from ionloop.selection import SelectSettings, classify, select
from ionloop.selection.accounting import NOT_SENT
from ionloop.selection.pick import OVER_MAX

TRUST = TrustWindow(low=0.1, high=0.3)


def gas(lengths, symbols: tuple[str, str] = ("Li", "S")) -> Frames:
    """Return pairs of atoms at the given distances in Å: alike where the distances are."""
    positions = np.zeros((len(lengths), 2, 3))
    positions[:, 1, 2] = lengths
    return Frames(symbols, positions, np.tile(15 * np.eye(3), (len(lengths), 1, 1)))


def exploration() -> tuple[Table, list[Frames]]:
    """Return ten judged frames, three of which travelled, of two compositions."""
    max_devi_f = np.array([0.05, 0.15, 0.2, 0.25, 0.28, 0.5, np.nan, 0.1, 0.02, 9.0])
    verdict = classify(max_devi_f, TRUST.f).astype("<U9")
    verdict[9] = "skipped"
    table = Table(
        {
            "trajectory": np.repeat([0, 1], 5),
            "step": np.tile(np.arange(5) * 10, 2),
            "temperature": np.repeat([300.0, 600.0], 5),
            "pressure": np.ones(10),
            "max_devi_f": max_devi_f,
            "max_devi_v": np.zeros(10),
            "min_distance_ratio": np.full(10, 1.5),
            "verdict": verdict,
            "reason": np.char.add("as ", verdict),
            "frame": np.array([-1, 2, -1, 0, 1, -1, -1, -1, -1, -1]),
        }
    )
    return table, [gas([2.0, 2.0001]), gas([2.5], ("Li", "P"))]


def test_a_selection_accounts_for_every_frame():
    table, candidates = exploration()
    selection = select(table, candidates, [], TRUST, SelectSettings(max_labels=5), seed=3)
    assert selection.counts.model_dump() == {
        "accurate": 2, "candidate": 5, "failed": 2, "skipped": 1,
    }  # fmt: skip
    assert [(level.temperature, level.candidate) for level in selection.by_temperature] == [
        (300.0, 4),
        (600.0, 1),
    ]
    assert sum(selection.histogram.counts) == 8
    assert selection.histogram.counts[-1] == 0
    assert selection.histogram.counts[33] == 1
    assert selection.histogram.edges[-1] == pytest.approx(0.6)
    assert selection.set_aside == {NOT_SENT: 2, "too near pick": 1}
    assert len(selection.picks) == 2
    assert sum(selection.set_aside.values()) + len(selection.picks) == selection.counts.candidate


def test_a_selection_says_where_its_picks_come_from():
    table, candidates = exploration()
    selection = select(
        table, candidates, [], TRUST, SelectSettings(max_labels=5, strategy="highest")
    )
    first, second = selection.picks
    assert (first.step, first.max_devi_f, first.reason) == (40, 0.28, "picked: highest")
    assert first.frame_id == candidates[0].ids[1]
    assert second.frame_id == candidates[1].ids[0]
    assert [frames.ids for frames in selection.picked] == [(first.frame_id,), (second.frame_id,)]
    verdicts = selection.verdicts
    assert verdicts["frame_id"].tolist()[:4] == ["", second.frame_id, "", candidates[0].ids[0]]
    assert verdicts["reason"].tolist() == [
        "as accurate",
        "picked: highest",
        NOT_SENT,
        f"too near pick {first.frame_id}",
        "picked: highest",
        "as failed",
        "as failed",
        NOT_SENT,
        "as accurate",
        "as skipped",
    ]


def test_a_selection_fills_its_document():
    table, candidates = exploration()
    selection = select(table, candidates, [], TRUST, SelectSettings(max_labels=1))
    names = selection.model_fields_set
    assert names == set(SelectionDoc.model_fields) - set(Document.model_fields)
    document = SelectionDoc(run="r", **{name: getattr(selection, name) for name in names})
    assert document.set_aside[OVER_MAX] + document.set_aside.get("too near pick", 0) == 2
    assert SelectionDoc.model_validate_json(document.model_dump_json()).picks == selection.picks


def test_an_exploration_without_candidates_gives_an_empty_selection():
    table, _ = exploration()
    table = table.with_columns(frame=np.full(10, -1))
    selection = select(table, [], [], TRUST, SelectSettings(max_labels=5))
    assert selection.picks == []
    assert selection.picked == []
    assert selection.set_aside == {NOT_SENT: 5}


def test_candidates_that_do_not_belong_to_the_table_are_refused():
    table, candidates = exploration()
    with pytest.raises(ValueError, match="name 3 frames and 2 candidates came"):
        select(table, candidates[:1], [], TRUST, SelectSettings(max_labels=5))
