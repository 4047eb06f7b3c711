"""The benchmark of errors against labels: picks, errors, the file of results."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from ionloop.codes.common.prediction import Prediction
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = Path(__file__).parents[2] / "docs/results"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return {name: import_module(name) for name in ("label_data", "label_results", "label_page")}


def frames(n: int, seed: int, virials: bool = False) -> Frames:
    random = np.random.default_rng(seed)
    return Frames(
        ("Li", "S"),
        random.normal(size=(n, 2, 3)),
        np.tile(5 * np.eye(3), (n, 1, 1)),
        random.normal(size=n),
        random.normal(size=(n, 2, 3)),
        random.normal(size=(n, 3, 3)) if virials else None,
    )


def test_smaller_picks_are_parts_of_larger_ones(modules):
    pick = modules["label_data"].pick
    pool = [frames(30, 0), frames(20, 1, virials=True), frames(10, 2, virials=True)]
    picked = {n: {i for part in pick(pool, n, 3) for i in part.ids} for n in (5, 20, 60)}
    assert [len(ids) for ids in picked.values()] == [5, 20, 60]
    assert picked[5] < picked[20] < picked[60]
    assert picked[60] == {i for part in pick(pool, None, 3) for i in part.ids}
    assert picked[20] != {i for part in pick(pool, 20, 4) for i in part.ids}
    with pytest.raises(InputError, match="61 labels are asked for, and the pool has 60"):
        pick(pool, 61, 3)


def test_errors_with_and_without_a_constant_energy(modules):
    labelled = frames(4, 0)
    shifts = np.array([0.3, 0.3, 0.3, 0.5])  # per atom
    energies = labelled.energies + labelled.n_atoms * shifts
    wrong = Prediction(energies[None], labelled.forces[None] + 0.2, np.zeros((1, 4, 3, 3)))
    found = modules["label_data"].score([labelled], lambda part: wrong)
    assert found.force == pytest.approx(200)
    assert found.energy == pytest.approx(1000 * np.sqrt(np.mean(shifts**2)))
    assert found.energy_shifted == pytest.approx(1000 * np.std(shifts))


def record(modules, **changes):
    score = modules["label_data"].Score(8, 100.0, 800.0, 30.0, 2.0)
    given = {"method": "scratch", "n": 10, "seed": 0, "steps": 100, "quick": False}
    other = {"all_labels": False, "core_seconds": 5.0, "settings": {}, "notes": {"own_force": 9.0}}
    scores = {"test": score, "tuning": score}
    return modules["label_results"].Record(**given | other | scores | changes)


def test_results_are_kept_and_a_line_cut_short_is_run_again(modules, tmp_path):
    results = modules["label_results"].Results(tmp_path / "results.jsonl")
    first, second = record(modules), record(modules, n=1790, all_labels=True)
    results.add(first)
    results.add(second)
    whole = results.path.read_text()
    assert second.order.n is None
    results.path.write_text(whole[:-20])
    again = modules["label_results"].Results(results.path)
    assert list(again.records) == [first.order]
    again.add(second)
    assert modules["label_results"].Results(results.path).records == results.records


def test_the_page_gives_the_length_that_did_best_on_other_frames(modules, tmp_path):
    score = modules["label_data"].Score
    better = score(8, 90.0, 800.0, 30.0, 2.0)
    longer = record(modules, steps=200, tuning=better, test=score(8, 95.0, 800.0, 30.0, 1.5))
    other = record(modules, seed=1, test=score(8, 105.0, 800.0, 30.0, 2.5))
    records = [record(modules), longer, other, record(modules, seed=1, steps=200)]
    page = modules["label_page"].write_page(records, tmp_path).read_text()
    row = next(line for line in page.splitlines() if line.startswith("| DeePMD from scratch"))
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["10", "2", "100 ± 7"]
    assert "100 to 200" in row
    assert "DeePMD from scratch with 10 labels, seed 0 (up to 200 steps)" in page
    assert "seed 1 (up to" not in page
    assert (tmp_path / "labels.png").stat().st_size > 10_000


def test_the_page_in_the_documentation_is_that_of_the_results_beside_it(modules, tmp_path):
    results = modules["label_results"].Results(RESULTS / "labels.jsonl")
    page = modules["label_page"].write_page(list(results.records.values()), tmp_path)
    stale = "write it again: python benchmarks/labels.py --full --page"
    assert page.read_text() == (RESULTS / "labels.md").read_text(), stale


def test_data_that_are_not_there_are_asked_for(modules, tmp_path):
    with pytest.raises(InputError, match=r"init, iteration-0, .* missing\); name their folder"):
        modules["label_data"].find_data(tmp_path)


@pytest.mark.slow
def test_few_labels_through_fine_tuning_beat_training_from_scratch(modules, tmp_path):
    try:
        data = modules["label_data"].find_data()
    except InputError as absent:
        pytest.skip(str(absent))
    options = {"--data": data, "--results": "results.jsonl", "--work": "work", "--labels": 10}
    places = [str(word) for option in options.items() for word in option]
    script = [sys.executable, str(BENCHMARKS / "labels.py"), "--quick", *places]
    methods = ["--methods", "scratch", "7net-0", "--processes", "2"]
    subprocess.run([*script, *methods], check=True, cwd=tmp_path)
    found = modules["label_results"].Results(tmp_path / "results.jsonl").records
    errors = {order.method: result.test.force for order, result in found.items()}
    assert errors["7net-0"] < 0.8 * errors["scratch"]
