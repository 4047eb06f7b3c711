from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ionloop.cli import look_commands
from ionloop.cli.main import app
from ionloop.stores.connect import open_store

sys.path.insert(0, str(Path(__file__).parents[1] / "monitor"))
from synthetic_run import Writer, whole_run


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Invoke a command in a folder with a store; return exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IONLOOP_STORE", raising=False)

    def invoke(*arguments: str):
        result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return invoke


@pytest.fixture
def writer(run):
    store = open_store("ionloop.db")
    yield whole_run(store, n_turns=3)
    store.close()


def test_a_missing_store_is_named_and_not_created(run, tmp_path):
    code, _, errors = run("status")
    assert code == 2
    assert f"there is no store {tmp_path / 'ionloop.db'}" in errors
    assert list(tmp_path.iterdir()) == []


def test_status_lists_runs(run, writer):
    code, output, _ = run("status")
    assert code == 0
    (line,) = [line for line in output.splitlines() if line.startswith("lgps")]
    assert line.split()[3] == "completed"
    assert f"{writer.turns[-1].accurate_fraction:.1%}" in line


def test_status_of_a_run_turn_by_turn(run, writer):
    code, output, _ = run("status", "lgps")
    assert code == 0
    assert "converged after 3 turn(s)" in output
    assert "11/12" in output
    assert "1 outlier" in output
    assert "ended early: 2 at 600 K (Li4PS3): two atoms are too near" in output
    assert "force RMSE 110 meV/Å (18% of the forces' RMS, 620 meV/Å)" in output


def test_status_as_json(run, writer):
    _, output, _ = run("status", "lgps", "--json")
    data = json.loads(output)
    assert [turn["turn"] for turn in data["turns"]] == [0, 1, 2]
    assert data["standing"]["state"] == "completed"
    assert data["summary"]["validation"]["errors"]["force_mev_per_angstrom"] == 110
    assert json.loads(run("status", "--json")[1])[0]["run"] == "lgps"


def test_status_says_how_to_go_on(run, tmp_path):
    store = open_store(tmp_path / "other.db")
    writer = Writer(store, "agi")
    writer.begin()
    sentence = "train failed: RuntimeError: no model"
    error = {"summary": sentence}
    writer.journal("bad-1", "train", 0, "failed", error=error, folder="/scratch/agi/train-1")
    store.close()
    _, output, _ = run("status", "agi", "--store", "other.db")
    assert sentence in output
    assert "files in /scratch/agi/train-1" in output
    assert "ionloop resume agi --retry-failed --store other.db" in output


def test_watching_ends_with_the_run(run, writer):
    code, output, _ = run("status", "lgps", "--watch")
    assert code == 0
    assert "converged after 3 turn(s)" in output


def test_watching_looks_once_at_a_time(run, writer, monkeypatch):
    looks = []
    status_data = look_commands.status_data
    monkeypatch.setattr(
        look_commands,
        "status_data",
        lambda *args: looks.append(args) or status_data(*args),
    )
    run("status", "lgps", "--watch")
    assert len(looks) == 1


def test_an_unknown_run_is_answered_with_the_known_ones(run, writer):
    for command in (["status", "nope"], ["frames", "nope"], ["export", "nope", "models"]):
        code, _, errors = run(*command)
        assert code == 2
        assert "no run 'nope'" in errors
        assert "it has lgps" in errors


def test_frames_as_table_and_json(run, writer):
    _, output, _ = run("frames", "lgps", "--iteration", "1", "--reason", "picked")
    assert output.count("accepted") == 11
    assert output.count("rejected outlier") == 1
    _, output, _ = run("frames", "lgps", "--verdict", "candidate", "--limit", "0", "--json")
    rows = json.loads(output)
    assert len(rows) == sum(turn.counts.candidate for turn in writer.turns)
    assert {row["verdict"] for row in rows} == {"candidate"}


def test_frames_says_when_there_may_be_more_or_none(run, writer):
    assert "the first 20; more with --limit" in run("frames", "lgps")[1]
    assert "no frame fits" in run("frames", "lgps", "--temperature", "8")[1]
    code, _, told = run("frames", "lgps", "--iteration", "8")
    assert code == 2
    assert "no frames of turn 8 yet" in told


def test_frames_as_poscars(run, writer, tmp_path):
    _, output, _ = run("frames", "lgps", "--verdict", "candidate", "--poscar", "out")
    assert "20 of 20 written to out" in output
    assert len(list((tmp_path / "out").glob("*.vasp"))) == 20
    code, _, errors = run("frames", "lgps", "--verdict", "failed", "--poscar", "none")
    assert code == 2
    assert "candidates only" in errors


def test_an_unknown_verdict(run, writer):
    code, _, errors = run("frames", "lgps", "--verdict", "good")
    assert code == 2
    assert "choose one of accurate, candidate" in errors


@pytest.mark.parametrize(
    ("what", "files"),
    [
        ("dataset", ["dataset", "dataset.json"]),
        ("models", ["potential-0.pb", "potential.json"]),
        ("figure", ["learning.png"]),
    ],
)
def test_export(run, writer, tmp_path, what, files):
    code, output, _ = run("export", "lgps", what)
    assert code == 0
    assert output.split() == [f"export/lgps/{name}" for name in files]
    assert sorted(path.name for path in (tmp_path / "export/lgps").iterdir()) == files
    code, _, errors = run("export", "lgps", what)
    assert code == 2
    assert "is there already" in errors
    assert json.loads(run("export", "lgps", what, "--force", "--json")[1])[0].endswith(files[0])


def test_export_options(run, writer, tmp_path):
    code, _, _ = run("export", "lgps", "dataset", "--format", "extxyz", "--split", "--out", "xyz")
    assert code == 0
    assert (tmp_path / "xyz/training.extxyz").is_file()
    code, _, errors = run("export", "lgps", "dataset", "--format", "xml", "--out", "bad")
    assert code == 2
    assert "'xml'; choose one of deepmd/npy, deepmd/hdf5, extxyz" in errors
    assert run("export", "lgps", "sun")[0] == 2


def test_show(run, writer):
    uuid = writer.references[0].uuid
    _, output, _ = run("show", uuid[:12])
    assert output.startswith(f"job {uuid}")
    data = json.loads(run("show", writer.labels[3].frame_id, "--json")[1])
    assert (data["kind"], data["key"]) == ("frame", writer.labels[3].frame_id)
    code, _, errors = run("show", "nothing-like-it")
    assert code == 2
    assert "'nothing-like-it'" in errors


def test_looking_leaves_no_trace(run, tmp_path):
    store = open_store("ionloop.db")
    whole_run(store, n_turns=1)
    store.close()
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}
    for words in ("status", "status lgps", "status lgps --jobs", "frames lgps", "show lgps"):
        assert run(*words.split())[0] == 0
    assert run("export", "lgps", "models", "--out", f"{tmp_path}-out")[0] == 0
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()} == before


def test_another_programs_database_is_left_alone(run, tmp_path):
    with contextlib.closing(sqlite3.connect("other.sqlite")) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    before = (tmp_path / "other.sqlite").read_bytes()
    for words in ("status", "frames lgps", "export lgps models", "show lgps", "resume lgps"):
        code, _, errors = run(*words.split(), "--store", "other.sqlite")
        assert code == 2
        assert "other.sqlite: this is a database of something else (its tables: book" in errors
    assert (tmp_path / "other.sqlite").read_bytes() == before


@pytest.mark.parametrize("command", ["status", "frames", "export", "show"])
def test_every_help_has_examples(run, command):
    code, output, _ = run(command, "--help")
    assert code == 0
    assert f"ionloop {command} " in output


def test_a_file_that_is_no_store(run, tmp_path):
    (tmp_path / "ionloop.db").write_text("not a database, just words " * 100)
    code, _, errors = run("status")
    assert code == 2
    assert "ionloop.db" in errors
