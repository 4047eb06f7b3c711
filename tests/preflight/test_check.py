from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ionloop.codes import deepmd, lammps
from ionloop.formats.reading import read_frames
from ionloop.formats.writing import write_frames
from ionloop.geometry.perturb import perturb
from ionloop.preflight.check import Report, check
from ionloop.preflight.codes.base import training_seconds
from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import load

ROOT = Path(__file__).parents[2]
LGPS = ROOT / "examples/lgps/LGPS.vasp"
EXAMPLES = sorted((ROOT / "examples").glob("*/*.yaml"))


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the programs answer: starting them takes seconds."""
    monkeypatch.setattr(deepmd, "program_version", lambda command: "3.2.0")
    monkeypatch.setattr(lammps, "program_version", lambda command, kind: "22 Jul 2025")


def run_file(folder: Path, **values) -> RunFile:
    given = {"structures": [LGPS], "label": {"model": "chgnet"}, **values}
    return RunFile.model_validate(given).located(folder)


def found(report: Report, level: str, key: str) -> str:
    sentences = [
        f"{f.sentence}; {f.cure}" for f in report.findings if (f.level, f.key) == (level, key)
    ]
    assert sentences, f"no {level} on {key} in {report.findings}"
    return " ".join(sentences)


@pytest.mark.usefixtures("programs")
def test_a_sound_run_file_passes(tmp_path):
    report = check(run_file(tmp_path))
    assert report.ok
    assert "1 of Li20Ge2P4S24" in found(report, "ok", "structures[0]")
    assert "chgnet covers Li, Ge, P, S" in found(report, "ok", "label.model")
    assert not (tmp_path / "ionloop.db").exists()


@pytest.mark.usefixtures("programs")
def test_missing_and_empty_structure_files_are_errors(tmp_path):
    (tmp_path / "empty.vasp").touch()
    report = check(run_file(tmp_path, structures=["none.vasp", "empty.vasp"]))
    assert "none.vasp does not exist" in found(report, "error", "structures[0]")
    assert "empty.vasp is empty" in found(report, "error", "structures[1]")


@pytest.mark.usefixtures("programs")
def test_element_that_the_labeller_lacks_is_an_error(tmp_path):
    text = LGPS.read_text().replace("Ge ", "Po ")
    (tmp_path / "strange.vasp").write_text(text)
    report = check(run_file(tmp_path, structures=["strange.vasp"]))
    assert "chgnet does not cover Po" in found(report, "error", "label.model")


@pytest.mark.usefixtures("programs")
def test_labeller_that_cannot_be_loaded_is_an_error(tmp_path):
    report = check(run_file(tmp_path, label={"model": "no_such_package.module:Calculator"}))
    assert "no_such_package" in found(report, "error", "label.model")


@pytest.mark.usefixtures("programs")
def test_type_map_must_fit_the_structures(tmp_path):
    report = check(run_file(tmp_path, type_map=["Li", "P", "S", "Na", "Li", "Qq"]))
    assert "lacks Ge" in found(report, "error", "type_map")
    assert "no chemical symbols: Qq" in found(report, "error", "type_map")
    assert "twice" in found(report, "error", "type_map")
    assert "Na: in no structure" in found(report, "warning", "type_map")


def test_missing_programs_are_errors_that_name_the_cure(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    report = check(run_file(tmp_path))
    assert "'dp' was not found on PATH; it is in " in found(report, "error", "train.command")
    assert "'lmp' was not found on PATH; it is in " in found(report, "error", "explore.command")


@pytest.mark.usefixtures("programs")
def test_limits_must_leave_labels_for_the_loop(tmp_path):
    validation = {"temperatures": [450], "n_frames": 30}
    spent = check(run_file(tmp_path, limits={"max_labels": 90}, validation=validation))
    assert "60 initial labels and 30 of the validation" in found(
        spent, "error", "limits.max_labels"
    )
    tight = check(run_file(tmp_path, limits={"max_labels": 91}, validation=validation))
    assert "leave 1, less than one turn's 300" in found(tight, "warning", "limits.max_labels")


@pytest.mark.usefixtures("programs")
def test_conditions_beyond_any_crystal_are_refused(tmp_path):
    stage = {"temperatures": [300], "steps": 100, "ensemble": "npt-tri"}
    stages = [{**stage, "pressures": [1e30]}, {**stage, "timestep": 1e6}]
    report = check(run_file(tmp_path, stages=stages, validation={"temperatures": [1e9]}))
    assert "1e+30 bar" in found(report, "error", "stages[0].pressures")
    assert "at most" in found(report, "error", "stages[1].timestep")
    assert "1e+09 K" in found(report, "error", "validation.temperatures")


def test_temperatures_are_above_zero(tmp_path):
    stages = [{"temperatures": [300, -5], "steps": 100}]
    report = check(run_file(tmp_path, stages=stages, validation={"temperatures": [900]}))
    assert "-5 K" in found(report, "error", "stages[0].temperatures")
    assert "outside the explored" in found(report, "warning", "validation.temperatures")


@pytest.mark.usefixtures("programs")
def test_windows_end_below_the_limit_of_explosion(tmp_path):
    stages = [{"temperatures": [300], "steps": 100, "trust": {"low": 1.0, "high": 12.0}}]
    report = check(run_file(tmp_path, stages=stages))
    assert "stop_max_devi_f" in found(report, "warning", "stages[0].trust")


@pytest.mark.usefixtures("programs")
def test_a_cell_that_moves_wants_a_window_on_the_virial(tmp_path):
    stages = [{"temperatures": [300], "steps": 1000, "ensemble": "npt-tri"}]
    told = found(check(run_file(tmp_path, stages=stages)), "warning", "trust")
    assert told.startswith("the cells of stage 1 move (NPT), and no window is set on max_devi_v;")
    window = {"low": 0.1, "high": 0.3, "v_low": 0.01, "v_high": 0.03}
    report = check(run_file(tmp_path, stages=stages, trust=window))
    assert not [finding for finding in report.findings if finding.key == "trust"]


@pytest.mark.usefixtures("programs")
def test_conditions_with_few_frames_are_told(tmp_path):
    stages = [{"temperatures": [300, 600], "steps": 100}]
    told = found(check(run_file(tmp_path, stages=stages)), "warning", "stages[0]")
    assert told.startswith("10 frames of a condition")
    report = check(run_file(tmp_path, stages=stages, convergence={"min_frames": 10}))
    assert not [finding for finding in report.findings if finding.key == "stages[0]"]


def test_data_must_be_of_the_labellers_level(tmp_path):
    data = [{"path": str(LGPS)}]
    report = check(run_file(tmp_path, initial={"n_perturbed": 0, "data": data}))
    assert "same_level: true" in found(report, "error", "initial.data[0]")
    assert "no energies" in found(report, "error", "initial.data")


@pytest.mark.usefixtures("programs")
def test_something_must_be_there_to_train_on(tmp_path):
    report = check(run_file(tmp_path, initial={"n_perturbed": 0}))
    assert "nothing to train on" in found(report, "error", "initial")


@pytest.mark.usefixtures("programs")
def test_cells_in_other_units_and_overlapping_atoms_are_told(tmp_path):
    lines = LGPS.read_text().splitlines()
    (tmp_path / "bohr.vasp").write_text("\n".join([lines[0], "0.2", *lines[2:], ""]))
    report = check(run_file(tmp_path, structures=["bohr.vasp"]))
    told = found(report, "warning", "structures")
    assert "only 1.76 Å thick" in told
    assert "too near" in told


@pytest.mark.usefixtures("programs")
def test_store_and_scratch_must_have_a_place(tmp_path):
    report = check(run_file(tmp_path, store="nowhere/my.db", scratch="/proc/scratch"))
    assert "nowhere does not exist" in found(report, "error", "store")
    (tmp_path / "no.db").write_text("this is no database, not even remotely")
    assert found(check(run_file(tmp_path, store="no.db")), "error", "store")
    assert found(check(run_file(tmp_path, store="http://host/x")), "error", "store")


@pytest.mark.usefixtures("programs")
def test_a_run_may_begin_in_an_empty_file(tmp_path):
    """Another run that starts at the same moment has just created it, or one was killed then."""
    (tmp_path / "new.db").touch()
    report = check(run_file(tmp_path, store="new.db"))
    assert "new.db is empty: nothing is stored yet" in found(report, "ok", "store")
    assert report.ok


@pytest.mark.usefixtures("programs")
def test_more_cores_than_there_are_is_a_warning(tmp_path):
    report = check(run_file(tmp_path, cores=10_000))
    assert str(len(os.sched_getaffinity(0))) in found(report, "warning", "cores")


@pytest.mark.usefixtures("programs")
def test_plan_and_estimate_say_what_will_happen(tmp_path):
    stages = [
        {"temperatures": [300, 600], "steps": 500, "max_turns": 3, "max_labels": 20},
        {"temperatures": [900], "steps": 1000, "max_turns": 2, "n_structures": 2},
    ]
    report = check(
        run_file(
            tmp_path,
            stages=stages,
            select={"max_labels": 50},
            initial={"n_perturbed": 40},
            validation={"temperatures": [450], "n_frames": 10, "steps": 1000},
            production={"n_models": 2},
        )
    )
    least, most = report.estimate.least, report.estimate.most
    assert (least.turns, most.turns) == (2, 5)
    assert (least.labels, most.labels) == (50, 40 + 3 * 20 + 2 * 50 + 10)
    assert (least.trainings, most.trainings) == (2 * 4 + 2, 5 * 4 + 2)
    assert (least.md_steps, most.md_steps) == (7000, 3 * 1000 + 2 * 2000 + 4000)
    assert 0 < least.core_hours < most.core_hours
    words = "\n".join(report.plan)
    assert "Validate it: 4 trajectories of 1000 steps" in words
    assert "label 10 of their frames, 200 fs apart or more, drawn at random" in words
    assert "Perturb LGPS.vasp 40 times" in words
    assert "Stage 2, at most 2 turns: 2 trajectories of 1000 steps (2 ps), NVT at 900 K" in words


@pytest.mark.usefixtures("programs")
def test_a_validation_of_more_frames_than_its_md_gives_is_refused(tmp_path):
    asked = {"temperatures": [450], "n_frames": 30, "steps": 200}
    told = found(check(run_file(tmp_path, validation=asked)), "error", "validation.n_frames")
    assert "30 frames are asked for, and the validation MD gives 8" in told


@pytest.mark.usefixtures("programs")
def test_estimate_is_near_what_was_measured(tmp_path):
    # 16,000 steps of [10,20,40]+[64]*3 on 50-atom LGPS took 177 s on one core.
    nets = {"neurons": [10, 20, 40], "fitting": [64, 64, 64], "steps": 16_000}
    seconds = training_seconds(run_file(tmp_path, train=nets).train, 50, warm=False)
    assert 0.5 * 177 < seconds < 2 * 177


@pytest.mark.usefixtures("programs")
def test_limits_cap_the_estimate(tmp_path):
    limits = {"max_turns": 2, "max_labels": 100}
    most = check(run_file(tmp_path, limits=limits)).estimate.most
    assert (most.turns, most.labels) == (2, 100)


@pytest.mark.usefixtures("programs")
def test_a_stage_ends_after_its_turns_even_if_it_cannot_converge_in_them(tmp_path):
    stages = [{"temperatures": [300], "steps": 500, "max_turns": 2}]
    file = run_file(tmp_path, stages=stages, convergence={"turns": 3})
    assert check(file).estimate.least.turns == 2


# MACE and its weights are not installed with ionloop: tests/examples/test_run_files.py.
@pytest.mark.parametrize(
    "path",
    [path for path in EXAMPLES if path.stem != "mace"],
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)
@pytest.mark.usefixtures("programs")
def test_examples_pass(path, monkeypatch, tmp_path):
    monkeypatch.setattr("ionloop.codes.forcefield.model.calculator", lambda settings: None)
    monkeypatch.setattr("ionloop.codes.forcefield.model.covered_elements", lambda settings: None)
    answer = {"version": "26.7.0", "ranks": 2, "missing": []}
    monkeypatch.setattr("ionloop.codes.gpaw.calculation.probe", lambda *arguments: answer)
    report = check(load(path).with_store(str(tmp_path / "ionloop.db")))
    assert report.ok, report.errors


def test_all_examples_are_there():
    names = [f"{path.parent.name}/{path.stem}" for path in EXAMPLES]
    assert names == [
        "alpha-agi/run",
        "lgps/gpaw",
        "lgps/huang2021",
        "lgps/run",
        "li3incl6/run",
        "li3inybrcl/run",
        "nasicon/mace",
        "nasicon/run",
    ]


def test_huang2021_asks_for_the_papers_labels():
    protocol = load(ROOT / "examples/lgps/huang2021.yaml")
    asked = [stage.max_labels or protocol.select.max_labels for stage in protocol.stages]
    assert protocol.initial.n_perturbed + sum(asked) == 2390
    assert [s.steps * s.timestep for s in protocol.stages[:4]] == [300, 1000, 5000, 10000]


@pytest.mark.usefixtures("programs")
def test_trainings_that_stand_still_or_are_too_short_are_told(tmp_path):
    train = {"steps": 3000, "warm_steps": 2000, "learning_rate_stop": 3.5e-8}
    report = check(run_file(tmp_path, train=train, production={"steps": 500, "warm_start": False}))
    sentence = found(report, "warning", "train.learning_rate_stop")
    assert "in the last 59% of 3000 steps the learning rate is below 4e-05" in sentence
    assert "of 2000 steps of a warm start" in sentence
    assert "leave the learning rates out" in sentence
    assert "500 steps are too few" in found(report, "warning", "production.steps")
    assert "of 500 steps the" in found(report, "warning", "production.learning_rate_stop")


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("train", [{}, {"steps": 3000, "warm_steps": 2000}])
def test_chosen_learning_rates_need_no_warning(train, tmp_path):
    report = check(run_file(tmp_path, train=train))
    keys = [finding.key for finding in report.findings if finding.level == "warning"]
    assert not [key for key in keys if key.startswith(("train", "production"))]


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_demo_passes_with_the_real_programs(tmp_path):
    demo = load(ROOT / "examples/lgps/run.yaml").with_store(str(tmp_path / "ionloop.db"))
    report = check(demo)
    assert report.ok, report.errors
    assert "7net-0 covers Li, Ge, P, S" in found(report, "ok", "label.model")
    assert "DeePMD-kit 3" in found(report, "ok", "train.command")
    assert "pair_style deepmd" in found(report, "ok", "explore.command")


@pytest.mark.usefixtures("programs")
def test_the_check_says_what_it_looks_at(tmp_path):
    told: list[str] = []
    check(run_file(tmp_path), told.append)
    assert "structures and data" in told
    assert "the explorer, which is started" in told


@pytest.mark.usefixtures("programs")
def test_a_cell_too_wide_for_a_search_of_neighbours_is_an_error(tmp_path):
    lines = LGPS.read_text().splitlines()
    (tmp_path / "wide.vasp").write_text("\n".join([lines[0], "1000000", *lines[2:]]))
    report = check(run_file(tmp_path, structures=["wide.vasp"]))
    assert "Å wide" in found(report, "error", "structures")


def test_programs_in_path_that_are_something_else_are_told(tmp_path, monkeypatch):
    for name, script in {"dp": "echo hello", "lmp": "kill -11 $$"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    report = check(run_file(tmp_path))
    assert "'hello'" in found(report, "error", "train.command")
    assert "SIGSEGV" in found(report, "error", "explore.command")


@pytest.mark.usefixtures("programs")
def test_a_program_that_never_answers_does_not_hang_the_check(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(deepmd.program, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(lammps.program, "PROBE_SECONDS", 0.5)
    for name in ("dp", "lmp"):
        (tmp_path / name).write_text("#!/bin/sh\nexec sleep 600\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    report = check(run_file(tmp_path))
    for key in ("train.command", "explore.command"):
        assert "did not answer within" in found(report, "error", key)


def data_of_lgps(folder: Path, name: str, **changes) -> dict:
    """Write ten labelled LGPS frames, changed, and return their entry in the run file."""
    (start,) = read_frames(LGPS)
    frames = perturb(start, 10, displacement=0.05, strain=0.0, seed=3)
    moves = frames.positions - start.positions
    labels = {"energies": -200 + 4 * (moves**2).sum(axis=(1, 2)), "forces": -8 * moves}
    labelled = replace(frames, **labels)
    for key, change in changes.items():
        change(getattr(labelled, key))
    write_frames(labelled, folder / name, "extxyz")
    return {"path": str(folder / name), "same_level": True}


@pytest.mark.usefixtures("programs")
def test_data_are_judged_before_anything_costs(tmp_path):
    def explode(forces):
        forces[2, 4, 0] = 1e6

    def shrink(lengths):
        lengths /= 20

    def to_bohr(lengths):
        lengths /= 0.529177

    def vanish(forces):
        forces[6, 7, 1] = float("nan")

    data = [
        data_of_lgps(tmp_path, "good.extxyz"),
        data_of_lgps(tmp_path, "forces.extxyz", forces=explode),
        data_of_lgps(tmp_path, "small.extxyz", cells=shrink, positions=shrink),
        data_of_lgps(tmp_path, "bohr.extxyz", cells=to_bohr, positions=to_bohr),
        data_of_lgps(tmp_path, "nan.extxyz", forces=vanish),
    ]
    report = check(run_file(tmp_path, initial={"data": data}))
    assert "no word on the convergence of its SCF" in found(report, "ok", "initial.data[0]")
    assert not [f for f in report.findings if f.key == "initial.data[0]" and f.level != "ok"]
    told = found(report, "warning", "initial.data[1]")
    assert "forces.extxyz: 1 of 10 frames are rejected (1 outlier)" in told
    assert "frame 3 of Li20Ge2P4S24: a force of 1e+06 eV/Å on atom 5 (Li)" in told
    assert "small.extxyz: lengths" in found(report, "error", "initial.data[2]")
    bohr = found(report, "error", "initial.data[3]")
    assert "bohr.extxyz: lengths are like Bohr" in bohr and "Convert the data" in bohr
    assert "nan.extxyz: frame 7, atom 8 (Li): the force holds nan" in found(
        report, "error", "initial.data[4]"
    )


@pytest.mark.usefixtures("programs")
def test_trajectories_of_more_frames_than_memory_holds_are_refused(tmp_path):
    stages = [{"temperatures": [300], "steps": 10**12}]
    report = check(run_file(tmp_path, stages=stages))
    assert "1e+11 frames of every trajectory" in found(report, "error", "stages[0].steps")


@pytest.mark.usefixtures("programs")
def test_trajectories_of_more_legs_than_a_script_takes_are_refused(tmp_path):
    stages = [{"temperatures": [300], "steps": 10**6}]
    report = check(run_file(tmp_path, stages=stages, explore={"restart_every": 1}))
    assert "1e+05 restart files" in found(report, "error", "explore.restart_every")
    validation = {"temperatures": [300], "steps": 10**9}
    report = check(run_file(tmp_path, validation=validation))
    assert "restart files" in found(report, "error", "explore.restart_every")
    assert "validation.spacing" in found(report, "error", "validation.steps")


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("model", [{"a": 1}, {"descriptor": "x", "fitting_net": {}}])
def test_a_model_that_deepmd_does_not_take_is_refused(model, tmp_path):
    told = found(check(run_file(tmp_path, train={"model": model})), "error", "train.model")
    assert "DeePMD-kit does not take this dictionary" in told
