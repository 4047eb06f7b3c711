from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from pymongo.errors import PyMongoError
from typer.testing import CliRunner

from ionloop.cli import render
from ionloop.cli.main import app
from ionloop.cli.versions import _program
from ionloop.codes import deepmd, lammps
from ionloop.engines.local.execution import RunSummary
from ionloop.engines.local.progress import RichProgress
from ionloop.preflight.inputs import read_inputs
from ionloop.runfile.reading import load
from ionloop.runs import records as launch
from ionloop.schemas.errors import InputError
from ionloop.schemas.job import JobRow, JobState
from ionloop.schemas.potential import ForceErrors
from ionloop.schemas.run import SummaryDoc, ValidationDoc
from ionloop.stores.errors import StoreError

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests/toy"
ERRORS = ForceErrors(
    n_frames=30,
    energy_mev_per_atom=2.0,
    force_mev_per_angstrom=120.0,
    force_rms_mev_per_angstrom=600.0,
)
SUMMARY = SummaryDoc(
    converged=True,
    reason="accurate fraction reached",
    n_turns=2,
    n_labels=130,
    n_accepted=129,
    accurate_fractions=[0.5, 0.97],
    counts=[],
    core_hours=0.4,
    potential=None,
    train_errors=[ERRORS],
    validation=ValidationDoc(errors=ERRORS, temperatures=[450.0], n_requested=30, n_accepted=30),
)

cli = CliRunner()


@pytest.fixture
def run_file(tmp_path) -> Path:
    path = tmp_path / "run.yaml"
    structure = ROOT / "examples/lgps/LGPS.vasp"
    path.write_text(f"name: lgps\nstructures: [{structure}]\nlabel: {{model: chgnet}}\n")
    return path


@pytest.fixture
def programs(monkeypatch):
    monkeypatch.setattr(deepmd, "program_version", lambda command: "3.2.0")
    monkeypatch.setattr(lammps, "program_version", lambda command, kind: "22 Jul 2025")


def ending(monkeypatch, summary: SummaryDoc | None, *, interrupted: bool = False) -> None:
    """Let every run end at once in the given way."""
    ended = RunSummary(run="lgps", counts={"completed": 3}, failures=(), interrupted=interrupted)
    for name in ("start", "resume"):
        monkeypatch.setattr(f"ionloop.runs.launch.{name}", lambda *args, **options: ended)
    monkeypatch.setattr(launch, "summary", lambda store, run: summary)
    monkeypatch.setattr("ionloop.runs.queue.engine_name", lambda *_: "local")


def test_help_names_every_command():
    program = Path(sys.executable).with_name("ionloop")
    answer = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    for command in ("init", "check", "run", "resume", "status", "frames", "export", "show"):
        assert command in answer.stdout


def test_importing_the_commands_imports_nothing_heavy():
    script = (
        "import sys, ionloop.cli.main\n"
        "heavy = {'numpy', 'jobflow', 'pymatgen', 'torch', 'ase', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("command", ["init", "check", "run", "resume"])
def test_help_shows_examples(command):
    answer = cli.invoke(app, [command, "--help"])
    assert f"ionloop {command} " in answer.output


def test_init_writes_and_refuses_to_overwrite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.invoke(app, ["init"]).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"run.yaml", "LGPS.vasp"}
    again = cli.invoke(app, ["init"])
    assert again.exit_code == 2
    assert "run.yaml exists; overwrite it with --force" in again.stderr
    assert cli.invoke(app, ["init", "--force"]).exit_code == 0


@pytest.mark.usefixtures("programs")
def test_check_prints_json(run_file):
    answer = cli.invoke(app, ["check", str(run_file), "--json"])
    assert answer.exit_code == 0
    report = json.loads(answer.stdout)
    assert report["estimate"]["most"]["labels"] == 60 + 5 * 300
    assert {finding["level"] for finding in report["findings"]} <= {"ok", "warning", "error"}
    assert report["plan"][0].startswith("1. Perturb LGPS.vasp 60 times")


@pytest.mark.usefixtures("programs")
def test_check_says_it_in_words(run_file):
    answer = cli.invoke(app, ["check", str(run_file)])
    assert "What will happen" in answer.stdout
    assert "chgnet covers Li, Ge, P, S" in answer.stdout


def test_a_typo_ends_with_a_sentence(run_file):
    run_file.write_text(run_file.read_text() + "trian: {}\n")
    answer = cli.invoke(app, ["check", str(run_file)])
    assert answer.exit_code == 2
    assert "line 4: trian: unknown key; did you mean 'train'?" in answer.stderr
    assert "Traceback" not in answer.output


def test_debug_shows_the_traceback(run_file):
    run_file.write_text(run_file.read_text() + "trian: {}\n")
    answer = cli.invoke(app, ["--debug", "check", str(run_file)])
    assert isinstance(answer.exception, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        StoreError("the store is locked"),
        InputError("the store is locked"),
        FileNotFoundError("the store is locked"),
        PyMongoError("the store is locked"),
    ],
)
def test_what_is_foreseen_ends_with_its_own_sentence(monkeypatch, run_file, error):
    answer = failing(monkeypatch, run_file, error)
    assert answer.exit_code == 2
    assert "the store is locked" in answer.stderr
    assert "report" not in answer.stderr
    assert "Traceback" not in answer.output


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, KeyError, ImportError, AttributeError])
def test_a_librarys_error_is_a_fault_to_report(monkeypatch, run_file, kind, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answer = failing(monkeypatch, run_file, kind("operands could not be broadcast"))
    assert answer.exit_code == 70
    assert f"unexpected {kind.__name__}" in answer.stderr
    assert "please report it" in answer.stderr
    (stack,) = tmp_path.glob("ionloop-traceback-*.txt")
    assert str(stack) in answer.stderr
    assert stack.read_text().startswith("Traceback (most recent call last)")
    assert "Traceback (" not in answer.output


def failing(monkeypatch, run_file: Path, error: Exception):
    """Check a run file while something in it raises."""

    def fail(path):
        raise error

    monkeypatch.setattr("ionloop.runfile.reading.load", fail)
    return cli.invoke(app, ["check", str(run_file)])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["check", "--json"], "Missing argument"),
        (["status", "--bogus", "--json"], "No such option"),
        (["nonsense", "--json"], "No such command"),
        (["--bogus", "status", "--json"], "No such option"),
        (["label", "toy", "--json"], "Missing argument"),
    ],
)
def test_a_mistake_in_the_command_line_is_json_on_request(arguments, complaint):
    answer = cli.invoke(app, arguments)
    assert answer.exit_code == 2
    refusal = json.loads(answer.stdout)
    assert refusal["ok"] is False
    assert complaint in refusal["errors"][0]
    assert complaint in answer.stderr
    assert not cli.invoke(app, [each for each in arguments if each != "--json"]).stdout


def test_the_version_names_what_is_found_and_runs_none_of_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "lmp").write_text(f"#!/bin/sh\n: > {tmp_path / 'was-run'}\n")
    (tmp_path / "lmp").chmod(0o755)
    answer = cli.invoke(app, ["--version"])
    assert answer.exit_code == 0
    assert not (tmp_path / "was-run").exists()
    told = dict(line.split(maxsplit=1) for line in answer.stdout.splitlines())
    assert told["ionloop"] == version("ionloop")
    assert told["jobflow"] == version("jobflow")
    assert told["dp"] == "not found"
    assert told["lmp"] == f"found ({tmp_path / 'lmp'})"


def test_a_program_of_this_environment_has_the_version_of_its_package(monkeypatch):
    program = Path(sys.executable).with_name("ionloop")
    monkeypatch.setenv("PATH", str(program.parent))
    assert f"{version('ionloop')} ({program})" == _program("ionloop", "ionloop")


def test_help_names_recover_and_completion_but_not_tend():
    answer = cli.invoke(app, ["--help"])
    assert "ionloop --install-completion" in answer.stdout
    assert "recover" in answer.stdout
    assert "tend " not in answer.stdout


@pytest.mark.parametrize("command", ["recover", "tend"])
def test_recover_has_its_old_name_too(command, monkeypatch):
    monkeypatch.setattr("ionloop.runs.queue.recover", lambda store, run: 3)
    answer = cli.invoke(app, [command, "lgps", "--json"])
    assert json.loads(answer.stdout) == {"jobs": 3}


@pytest.mark.parametrize("command", ["check", "run", "submit"])
def test_a_refused_run_file_is_json_on_request(run_file, command):
    run_file.write_text(run_file.read_text() + "trian: {}\nexplroe: {}\n")
    answer = cli.invoke(app, [command, str(run_file), "--json"])
    assert answer.exit_code == 2
    refusal = json.loads(answer.stdout)
    assert refusal["ok"] is False
    assert [error.split(": ")[1] for error in refusal["errors"]] == ["trian", "explroe"]


@pytest.mark.parametrize("command", ["check", "run", "submit"])
def test_what_the_check_refuses_is_json_on_request(run_file, monkeypatch, tmp_path, command):
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = cli.invoke(app, [command, str(run_file), "--json"])
    assert answer.exit_code == 2
    assert json.loads(answer.stdout)["ok"] is False


def test_run_refuses_before_anything_starts(run_file, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = cli.invoke(app, ["run", str(run_file)])
    assert answer.exit_code == 2
    assert "explore.command" in answer.stderr
    assert not (tmp_path / "ionloop.db").exists()


@pytest.mark.usefixtures("programs")
def test_run_ends_with_the_summary(run_file, monkeypatch):
    ending(monkeypatch, SUMMARY)
    answer = cli.invoke(app, ["run", str(run_file)])
    assert answer.exit_code == 0
    assert "converged after 2 turns" in answer.stdout
    assert "0.500 → 0.970" in answer.stdout
    assert "130 requested, 129 accepted" in answer.stdout
    assert "force RMSE 120 meV/Å (20% of the forces' RMS, 600 meV/Å)" in answer.stdout
    assert "ionloop export lgps models" in answer.stdout


@pytest.mark.usefixtures("programs")
def test_run_prints_json_alone(run_file, monkeypatch):
    ending(monkeypatch, SUMMARY)
    answer = cli.invoke(app, ["run", str(run_file), "--json"])
    told = json.loads(answer.stdout)
    assert told["ok"]
    assert told["summary"]["validation"]["errors"]["force_mev_per_angstrom"] == 120.0


@pytest.mark.usefixtures("programs")
def test_a_failed_run_ends_with_code_1_and_the_cure(run_file, monkeypatch):
    ending(monkeypatch, None)
    answer = cli.invoke(app, ["run", str(run_file)])
    assert answer.exit_code == 1
    assert "ionloop resume lgps --retry-failed" in answer.stderr


@pytest.mark.usefixtures("programs")
def test_an_interrupted_run_names_the_command_to_go_on(run_file, monkeypatch):
    ending(monkeypatch, None, interrupted=True)
    answer = cli.invoke(app, ["run", str(run_file)])
    assert answer.exit_code == 130
    assert "ionloop resume lgps" in answer.stdout


def test_a_run_on_a_queue_is_shown_as_one_on_this_machine(run_file, monkeypatch):
    rows = [
        JobRow(job_id=str(i), name="train", role="train", iteration=1, state=state)
        for i, state in enumerate([JobState.COMPLETED, JobState.RUNNING, JobState.QUEUED])
    ]
    shown = []

    def follow(store, run, report):
        report(rows)

    monkeypatch.setattr("ionloop.runs.queue.engine_name", lambda *_: "fireworks")
    monkeypatch.setattr("ionloop.runs.queue.proceed", lambda *_, **__: "lgps")
    monkeypatch.setattr("ionloop.runs.queue.follow", follow)
    update = RichProgress.update
    monkeypatch.setattr(
        RichProgress, "update", lambda *args: shown.append(args[1]) or update(*args)
    )
    store = run_file.with_name("my.db")
    store.touch()
    answer = cli.invoke(app, ["resume", "--store", str(store)])
    assert answer.exit_code == 1
    assert "turn 1; done so far: train 1 of 3; running: train" in answer.stderr
    assert "run lgps failed; after you have removed the cause: ionloop retry lgps" in answer.stderr
    assert shown[0].counts == {"train": {"completed": 1, "running": 1, "waiting": 1}}


@pytest.mark.usefixtures("programs")
def test_a_run_that_is_resumed_goes_on_where_its_jobs_are(run_file, monkeypatch):
    launch.enter(load(run_file))
    ending(monkeypatch, None)  # of every run on this machine
    proceeded = []
    monkeypatch.setattr("ionloop.runs.queue.engine_name", lambda *_: "fireworks")
    monkeypatch.setattr(
        "ionloop.runs.queue.proceed", lambda *args, **_: proceeded.append(args[1]) or "lgps"
    )
    monkeypatch.setattr("ionloop.runs.queue.follow", lambda *_: SUMMARY)
    answer = cli.invoke(app, ["run", str(run_file), "--or-resume"])
    assert answer.exit_code == 0
    assert proceeded == ["lgps"]
    assert "converged after 2 turns" in answer.stdout


def test_commands_name_the_store_where_it_is_not_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert render.command("status", "a", str(tmp_path / "ionloop.db")) == "ionloop status a"
    assert render.command("status", "a", "b/my.db") == "ionloop status a --store b/my.db"
    url = "mongodb://host/base"
    assert render.command("status", "a", url) == f"ionloop status a --store {url}"


def test_resume_without_a_store_creates_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = cli.invoke(app, ["resume"])
    assert answer.exit_code == 2
    assert f"there is no store {tmp_path / 'ionloop.db'}" in answer.stderr
    assert not list(tmp_path.iterdir())


def test_resume_takes_the_store_from_the_environment(tmp_path, monkeypatch):
    ending(monkeypatch, SUMMARY)
    store = tmp_path / "my.db"
    store.touch()
    answer = cli.invoke(app, ["resume"], env={"IONLOOP_STORE": str(store)})
    assert answer.exit_code == 0


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.usefixtures("toy")
def test_run_learns_a_toy_potential(tmp_path):
    for name in ("run.yaml", "AuCu.vasp"):
        (tmp_path / name).write_bytes((TOY / name).read_bytes())
    answer = cli.invoke(app, ["run", str(tmp_path / "run.yaml"), "--json"])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["jobs"].keys() == {"completed"}
    assert told["summary"]["n_labels"] == told["summary"]["n_accepted"] >= 12
    assert (tmp_path / "ionloop.db").exists()


def test_remarks_of_libraries_are_findings_and_do_not_leak(run_file, tmp_path):
    rounded = """data_LiCl
_cell_length_a 5.13
_cell_length_b 5.13
_cell_length_c 5.13
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Li1 Li 0.3333 0.6667 0.0
Cl1 Cl 0.5 0.5 0.5
"""
    (tmp_path / "LiCl.cif").write_text(rounded)
    run_file.write_text("structures: [LiCl.cif]\n")
    findings = read_inputs(load(run_file)).findings
    assert [each.level for each in findings if "fractional coord" in each.sentence] == ["warning"]
    program = Path(sys.executable).with_name("ionloop")
    command = [str(program), "init", "LiCl.cif", "--out", "new.yaml"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert answer.stderr == ""


def test_retry_of_a_role_that_is_none_names_the_roles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_file = tmp_path / "run.yaml"
    run_file.write_text(f"name: toy\nstructures: [{TOY / 'AuCu.vasp'}]\n")
    launch.enter(load(run_file))
    answer = cli.invoke(app, ["retry", "toy", "--role", "foo"])
    assert answer.exit_code == 2
    known = "decide, evaluate, explore, label, select, train"
    assert f"there is no role 'foo'; choose one of {known}" in answer.stderr
