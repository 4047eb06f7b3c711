from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ionloop.cli.main import app
from ionloop.schemas.process import identity
from ionloop.stores.connect import collection, open_store

sys.path.insert(0, str(Path(__file__).parents[1] / "monitor"))
from synthetic_run import Writer, whole_run

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Invoke a command in a folder with a store; return exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IONLOOP_STORE", raising=False)

    def invoke(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return invoke


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Writer]:
    """Write a finished run once; return its file."""
    path = tmp_path_factory.mktemp("written") / "ionloop.db"
    store = open_store(path)
    writer = whole_run(store, n_turns=3)
    store.close()
    return path, writer


@pytest.fixture
def writer(run: Run, written: tuple[Path, Writer]) -> Writer:
    path, writer = written
    shutil.copy(path, "ionloop.db")
    return writer


@pytest.mark.usefixtures("writer")
def test_info_says_what_fills_the_store(run: Run) -> None:
    code, output, _ = run("store", "info")
    assert code == 0
    lines = {line.split("  ")[0]: line.split() for line in output.splitlines()}
    assert lines["data: checkpoints"][2:] == ["7", "0.00", "MB"]
    assert lines["data: models"][2] == "7"
    assert any(line.endswith("MB of lgps") for line in output.splitlines())
    assert output.splitlines()[-1].endswith("free to write to")


@pytest.mark.usefixtures("writer")
def test_info_as_json(run: Run, tmp_path: Path) -> None:
    found = json.loads(run("store", "info", "--json")[1])
    assert found["file_size"] == (tmp_path / "ionloop.db").stat().st_size
    sizes = {(s["collection"], s["kind"]): s["n"] for s in found["shares"] if s["run"] == "lgps"}
    assert sizes["data", "checkpoints"] == 7
    assert sizes["outputs", "IterationDoc"] == 3
    assert sizes["runs", "runs"] == 1


@pytest.mark.usefixtures("writer")
def test_prune_lists_first_and_removes_on_request(run: Run, tmp_path: Path) -> None:
    before = (tmp_path / "ionloop.db").read_bytes()
    code, output, _ = run("store", "prune")
    assert code == 0
    assert "would be removed" in output
    assert output.splitlines()[-1].endswith("remove it with: ionloop store prune --yes")
    assert (tmp_path / "ionloop.db").read_bytes() == before
    removed = json.loads(run("store", "prune", "--yes", "--json")[1])
    assert (removed["removed"], removed["checkpoints"]["n"], removed["unused"]["n"]) == (True, 6, 0)
    assert removed["size"] == removed["checkpoints"]["size"] > 0
    again = json.loads(run("store", "prune", "--json")[1])
    assert (again["removed"], again["size"]) == (False, 0)


def test_a_pruned_run_is_shown_and_exported(run: Run, writer: Writer, tmp_path: Path) -> None:
    shown = [run("status"), run("status", "lgps"), run("frames", "lgps", "--limit", "0")]
    assert run("export", "lgps", "dataset", "--out", "before")[0] == 0
    run("store", "prune", "--yes")
    assert [run("status"), run("status", "lgps"), run("frames", "lgps", "--limit", "0")] == shown
    assert run("export", "lgps", "dataset", "--out", "after")[0] == 0
    accounts = [
        json.loads((tmp_path / n / "dataset.json").read_text()) for n in ("before", "after")
    ]
    assert accounts[0] == accounts[1]
    for number in ("0", "1", "2"):
        code, output, _ = run("export", "lgps", "models", "--iteration", number, "--out", number)
        assert code == 0 and len(output.splitlines()) == 3
    run("export", "lgps", "models")
    potential = tmp_path / "export" / "lgps" / "potential-0.pb"
    assert potential.read_bytes() in writer.models


@pytest.mark.usefixtures("writer")
def test_prune_is_refused_while_a_run_is_at_work(run: Run) -> None:
    store = open_store("ionloop.db")
    runs = collection(store, "runs")
    runs.update(runs.query_one({"run": "lgps"}) | {"runner": identity()}, key="run")
    store.close()
    assert run("store", "prune")[0] == 0
    code, _, errors = run("store", "prune", "--yes")
    assert code == 2
    assert "run 'lgps' is at work on this store" in errors


def test_a_missing_store_is_not_created(run: Run, tmp_path: Path) -> None:
    for command in (["info"], ["prune"], ["prune", "--yes"]):
        code, _, errors = run("store", *command)
        assert code == 2 and "there is no store" in errors
    assert list(tmp_path.iterdir()) == []
