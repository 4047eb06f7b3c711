"""The page of the comparison with DP-GEN's recipe."""

from __future__ import annotations

from contextlib import closing
from importlib import import_module
from pathlib import Path

import pytest

from ionloop.stores.connect import open_store

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("dpgen_page")


@pytest.fixture
def sizes(page):
    return import_module("dpgen").FULL_SIZES


def run(page, recipe: str, seed: int, forces: dict[str, float], *, quick: bool = False):
    lines = [
        {
            "what": what,
            "labels": 20 + 30 * number,
            "core_hours": 0.5 * (number + 1),
            "error": {"n_frames": 60, "force": force, "energy_shifted": force / 50},
        }
        for number, (what, force) in enumerate(forces.items())
    ]
    return page.Record(page.Order(recipe, "chgnet", seed, quick), lines)


def test_the_table_has_the_mean_of_the_seeds_even_where_one_run_was_shorter(page):
    runs = [
        run(page, "dpgen", 1, {"turn 0": 200, "turn 1": 160, "potential": 130}),
        run(page, "dpgen", 2, {"turn 0": 210, "potential": 150}),
        run(page, "distilled", 1, {"turn 0": 120, "potential": 90}),
    ]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in page.table(runs).split("\n")]
    assert rows[2:] == [
        ["DP-GEN's recipe", "turn 0", "2", "20", "205 ± 7", "4.10 ± 0.14", "0.50"],
        ["DP-GEN's recipe", "turn 1", "1", "50", "160", "3.20", "1.00"],
        ["DP-GEN's recipe", "potential", "2", "65", "140 ± 14", "2.80 ± 0.28", "1.25"],
        ["fine-tuned, then distilled", "turn 0", "1", "20", "120", "2.40", "0.50"],
        ["fine-tuned, then distilled", "potential", "1", "50", "90", "1.80", "1.00"],
    ]


def test_results_are_read_as_they_were_written_without_a_line_cut_short(page, tmp_path):
    runs = [run(page, "dpgen", seed, {"potential": 130.0}) for seed in (1, 2)]
    for each in runs:
        page.add_record(tmp_path / "dpgen.jsonl", each)
    assert page.read_records(tmp_path / "dpgen.jsonl") == runs
    whole = (tmp_path / "dpgen.jsonl").read_text()
    (tmp_path / "dpgen.jsonl").write_text(whole[:-20])
    assert page.read_records(tmp_path / "dpgen.jsonl") == runs[:1]


def test_quick_runs_are_not_on_the_page(page, sizes, tmp_path):
    long = run(page, "dpgen", 1, {"turn 0": 200.0, "potential": 130.0})
    quick = run(page, "distilled", 1, {"turn 0": 120.0, "potential": 90.0}, quick=True)
    text = page.write_page([long, quick], sizes, tmp_path).read_text()
    assert "| DP-GEN's recipe | turn 0" in text
    assert "| fine-tuned" not in text
    assert (tmp_path / "dpgen-chgnet.png").stat().st_size > 10_000
    with pytest.raises(SystemExit, match=r"dpgen\.py --full"):
        page.write_page([quick], sizes, tmp_path)


def test_labels_have_one_price_whichever_run_bought_them(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    bill_type = import_module("dpgen").Bill
    bought = [("first", None, "gpaw", 3600), ("first", 0, "gpaw", 7200), ("first", 1, "gpaw", 7200)]
    bought += [("second", None, "gpaw", 0), ("second", 0, "gpaw", 7200)]
    bought += [("second", None, "teacher", 1800)]
    with closing(open_store(tmp_path / "dpgen.db")) as store:
        store.docs_store.update(
            [accounted(f"{i}", *each) for i, each in enumerate(bought)], key=["uuid", "index"]
        )
        first, second = (bill_type(store, run, "gpaw", 360) for run in ("first", "second"))
        # 10 labels before the first turn and 20 in each: 3 hours were paid, 3 hours is their price.
        assert first.core_hours(5.0, 30, last=0) == pytest.approx(5.0)
        assert first.core_hours(8.0, 50, last=1) == pytest.approx(8.0)
        # The second run found the first 10 in the store; what its teacher did is no label's price.
        assert second.core_hours(4.0, 30, last=0) == pytest.approx(5.0)


def accounted(uuid: str, run: str, turn: int | None, code: str, core_seconds: float):
    metadata = {"run": run} | ({} if turn is None else {"iteration": turn})
    output = {"@class": "Labels", "core_seconds": core_seconds, "level": {"code": code}}
    return {"uuid": uuid, "index": 1, "metadata": metadata, "output": output}
