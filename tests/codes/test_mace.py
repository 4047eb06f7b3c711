"""What surrounds MACE: its epochs, its results, its process, and what is said if it is absent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydantic import ValidationError

from ionloop.codes.common.progress import advance_of
from ionloop.codes.common.training import TrainingError
from ionloop.codes.finetuning.training import Task
from ionloop.codes.mace import MaceSettings, inputs, results
from ionloop.codes.mace.beginning import base_of
from ionloop.codes.mace.potential import add_record, calculator, python_of, record
from ionloop.codes.mace.server import VARIABLE, MaceError, Server, server
from ionloop.preflight.codes.base import look_at_code, training_seconds
from ionloop.programs.errors import ProgramNotFoundError
from ionloop.runfile.sections.mace import MaceSection
from ionloop.runfile.sections.registry import section_type
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames

SETTINGS = MaceSettings(base="base.model")


@pytest.mark.parametrize("n_frames", [1, 3, 10, 100, 1730])
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("check_every", [1, 20, 1000])
def test_epochs_come_near_to_the_steps_and_the_last_one_is_compared(
    n_frames, batch_size, check_every
):
    changes = {"batch_size": batch_size, "check_every": check_every, "steps": 500}
    plan = inputs.course(SETTINGS.model_copy(update=changes), n_frames, 0, warm=False)
    per_epoch = n_frames / plan.batch_size
    interval = plan.check_every * per_epoch
    assert plan.epochs * per_epoch == pytest.approx(500, abs=max(per_epoch, interval / 2 + 1))
    assert (plan.epochs - 1) % plan.check_every == 0
    assert plan.steps == plan.epochs * (n_frames // plan.batch_size)
    assert plan.epochs == 1 or plan.decay ** (plan.epochs - 1) == pytest.approx(inputs.LAST_RATE)


def test_replayed_frames_come_on_top_of_the_steps():
    alone, beside = (inputs.course(SETTINGS, 10, n, warm=False) for n in (0, 30))
    assert alone.epochs == beside.epochs
    assert beside.steps_per_epoch == 4 * alone.steps_per_epoch


def test_mace_is_never_asked_to_download():
    plan = inputs.course(SETTINGS, 10, 0, warm=False)
    options = inputs.arguments(SETTINGS, plan, ["P", "Li"], seed=1, warm=False)
    assert options["multiheads_finetuning"] is False
    assert options["foundation_model"] == inputs.START
    assert options["atomic_numbers"] == [3, 15]
    replaying = SETTINGS.model_copy(update={"replay": "replay.xyz", "lora": 4, "freeze": 5})
    options = inputs.arguments(replaying, plan, ["Li"], seed=1, warm=False)
    assert options["multiheads_finetuning"] is True
    assert options["pt_train_file"] == inputs.REPLAY
    assert (options["lora_rank"], options["freeze"]) == (4, 5)
    assert "--lora=True" in inputs.as_words(options)
    scratch = MaceSettings(base="scratch", steps=10, channels=8)
    options = inputs.arguments(scratch, plan, ["Li"], seed=1, warm=False)
    assert options["num_channels"] == 8
    assert "foundation_model" not in options
    assert "foundation_model" in inputs.arguments(scratch, plan, ["Li"], seed=1, warm=True)


def test_a_gpu_by_its_number_is_one_of_those_that_are_seen(monkeypatch):
    monkeypatch.delenv(inputs.DEVICES, raising=False)
    assert inputs.variables("cuda") == {}
    assert inputs.variables("cuda:1") == {inputs.DEVICES: "1"}
    monkeypatch.setenv(inputs.DEVICES, "4,6")
    assert inputs.variables("cuda:1") == {inputs.DEVICES: "6"}


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"base": "a.model", "rise_steps": 5}, "rise_steps"),
        ({"base": "scratch"}, "steps"),
        ({"base": "scratch", "steps": 5, "lora": 4}, "lora"),
        ({"base": "a.model", "replay": "b.xyz", "warm_steps": 5}, "warm_steps"),
    ],
)
def test_what_mace_cannot_do_is_refused(keys, named):
    with pytest.raises(ValidationError, match=named):
        MaceSettings(**keys)


def test_the_estimate_counts_replayed_frames_and_the_net():
    base = MaceSection(base="a.model", steps=100)
    seconds = training_seconds(base, 50, warm=False)
    assert seconds == pytest.approx(280, abs=1)
    assert training_seconds(base, 100, warm=False) > 1.8 * seconds
    replaying = base.model_copy(update={"replay": "b.xyz", "replay_frames": 100})
    assert training_seconds(replaying, 50, warm=False) == pytest.approx(530, abs=1)
    small = MaceSection(base="scratch", steps=100, channels=64)
    assert training_seconds(small, 50, warm=False) < 0.5 * seconds


# --- its results --------------------------------------------------------------------------------


def write_results(folder: Path, losses: dict[int, float], **more: float) -> None:
    (folder / results.RESULTS).mkdir(exist_ok=True)
    rows = [{"mode": "opt", "epoch": epoch, "loss": 1.0} for epoch in losses for _ in range(10)]
    rows += [
        {"mode": "eval", "epoch": epoch, "loss": loss, "head": "Default"}
        | {"rmse_e_per_atom": 0.1, "rmse_f": 0.2}
        | more
        for epoch, loss in losses.items()
    ]
    rows += [{"mode": "eval", "epoch": epoch, "loss": 0.0, "head": "pt_head"} for epoch in losses]
    text = "\n".join(map(json.dumps, rows))
    (folder / results.RESULTS / "mace_run-1_train.txt").write_text(text + '\n{"mode": "op')


def write_checkpoints(folder: Path, *epochs: int) -> None:
    (folder / results.CHECKPOINTS).mkdir(exist_ok=True)
    for epoch in epochs:
        path = folder / results.CHECKPOINTS / f"mace_run-1_epoch-{epoch}.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", b"weights" * 100)


def test_the_best_checkpoint_is_kept_beside_the_newest(tmp_path):
    write_results(tmp_path, {0: 5.0, 2: 3.0, 4: 1.0, 6: 2.0, 8: 2.5, 10: 0.5})
    write_checkpoints(tmp_path, 0, 2, 4, 6, 8, 10)
    (broken,) = (tmp_path / results.CHECKPOINTS).glob("*-10.pt")
    broken.write_bytes(broken.read_bytes()[:50])  # killed while it was written
    assert list(results.checkpoints(tmp_path)) == [0, 2, 4, 6, 8]
    results.thin_out(tmp_path)
    assert list(results.checkpoints(tmp_path)) == [4, 6, 8]
    assert results.best_checkpoint(tmp_path).stem.endswith("-4")
    results.remove_checkpoints(tmp_path, keep=results.checkpoints(tmp_path).values())
    assert not broken.exists()


def test_patience_counts_comparisons_since_the_best():
    made = [results.Comparison(n, loss, 0.1, 0.1) for n, loss in enumerate([3, 1, 2, 2, 0.5, 1])]
    assert [results.out_of_patience(made[:n], 2) for n in range(7)] == [
        *[False] * 4,
        True,
        False,
        False,
    ]
    assert not results.out_of_patience(made, None)


def test_errors_that_are_not_finite_are_told(tmp_path):
    write_results(tmp_path, {0: 1.0}, rmse_f=float("nan"))
    with pytest.raises(TrainingError, match="lower the learning rate"):
        results.comparisons(tmp_path)


def test_the_learning_curve_counts_steps(tmp_path):
    write_results(tmp_path, {0: 3.0, 2: 2.0})
    plan = inputs.Course(epochs=3, steps_per_epoch=10, batch_size=1, check_every=2)
    curve = results.learning_curve(tmp_path, plan, 1e-3, held_back=True)
    assert curve["step"].tolist() == [10, 30]
    assert curve["lr"] == pytest.approx([1e-3, 1e-5])
    assert curve["rmse_f_val"].tolist() == [0.2, 0.2]
    results.note_advance(tmp_path, plan)
    assert advance_of([tmp_path]).words == "training step 20 of 30"


# --- its process --------------------------------------------------------------------------------


def test_a_python_without_mace_is_told():
    with pytest.raises(MaceError, match=r"failed to probe.*mace-torch"):
        Server(sys.executable, "cpu").ask("probe")


def test_what_a_process_said_before_it_ended_is_told(tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'libtorch.so: cannot be opened'\nexit 3\n")
    program.chmod(0o755)
    lost = Server(str(program), "cpu")
    for _ in range(2):  # the next question starts it again
        with pytest.raises(MaceError, match=r"exit status 3: libtorch.so: cannot be opened"):
            lost.ask("probe")


def test_a_process_that_is_killed_is_told_and_started_again():
    asked = Server(sys.executable, "cpu")
    with pytest.raises(MaceError, match="failed to probe"):
        asked.ask("probe")
    asked._process.kill()
    with pytest.raises(MaceError, match="was killed by SIGKILL"):
        asked.ask("probe")
    with pytest.raises(MaceError, match="failed to probe"):
        asked.ask("probe")


def test_a_python_that_is_not_there_is_told(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ProgramNotFoundError, match=VARIABLE):
        server(SETTINGS.python)
    with pytest.raises(ProgramNotFoundError, match="install-mace"):
        server("/nowhere/bin/python")
    section = section_type("train", {"code": "mace"}).model_validate({"base": "base.model"})
    (finding,) = look_at_code(section, ["Li"])
    assert (finding.level, finding.key) == ("error", "train.python")
    assert VARIABLE in finding.sentence


def test_a_process_ends_with_its_object():
    asked = Server(sys.executable, "cpu")
    with pytest.raises(MaceError):
        asked.ask("probe")
    process = asked._process
    del asked
    assert process.poll() is not None


def test_a_process_ends_with_its_parent():
    code = (
        "import sys, time\n"
        "from ionloop.codes.mace.server import Server\n"
        "server = Server(sys.executable, 'cpu')\n"
        "try: server.ask('probe')\n"
        "except Exception: print(server._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        process = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    process.wait(10)


# --- where its Python is ------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "mace.model"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mace/data.pkl", b"weights")
    return path


def test_a_model_says_which_python_evaluates_it(model, monkeypatch):
    monkeypatch.setenv(VARIABLE, sys.executable)
    assert record(model) == {}
    assert python_of(model) == f"${{{VARIABLE}}}"
    add_record(model, {"python": "/bin/sh"})
    assert python_of(model) == "/bin/sh"
    with zipfile.ZipFile(model) as archive:  # torch wants one folder in it
        assert {name.partition("/")[0] for name in archive.namelist()} == {"mace"}


def test_on_another_machine_the_environment_names_the_python(model, monkeypatch):
    add_record(model, {"python": "/nowhere/bin/python"})
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(InputError, match=rf"{VARIABLE} does not name one, and /nowhere/bin/python"):
        calculator(model)
    monkeypatch.setenv(VARIABLE, sys.executable)
    assert python_of(model) == f"${{{VARIABLE}}}"


def test_a_base_is_a_file(tmp_path):
    with pytest.raises(InputError, match="nothing is downloaded"):
        base_of(MaceSettings(base="medium"))
    section = MaceSection(base="scratch", steps=5).located(tmp_path)
    assert section.base == "scratch"
    assert MaceSection(base="a.model", replay="b.xyz").located(tmp_path).replay == str(
        tmp_path / "b.xyz"
    )


def test_frames_without_labels_are_not_replayed(tmp_path):
    frame = Frames(("Li", "F"), np.array([[[0, 0, 0], [2.0, 2, 2]]]), 4 * np.eye(3)[None])
    task = Task([frame], [], ["Li", "F"], 1, tmp_path, None, True)
    with pytest.raises(InputError, match="no energies and forces"):
        inputs.write_data(SETTINGS, task, tmp_path)
    (tmp_path / "bare.extxyz").write_text(
        '2\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T T"\nLi 0 0 0\nF 2 2 2\n'
    )
    with pytest.raises(InputError, match=r"train.replay: .*bare.extxyz"):
        inputs.replayed_frames(tmp_path / "bare.extxyz", 10, seed=1)


def test_a_replay_is_drawn_anew_for_each_model(tmp_path):
    from ase import Atoms
    from ase.calculators.emt import EMT
    from ase.io import write

    images = []
    for length in np.linspace(3.9, 4.3, 9):
        images.append(
            Atoms("Au4", FCC * length, cell=length * np.eye(3), pbc=True, calculator=EMT())
        )
        images[-1].get_forces()
    write(tmp_path / "gold.extxyz", images)
    drawn = [inputs.replayed_frames(tmp_path / "gold.extxyz", 5, seed) for seed in (1, 2)]
    ids = [{frame.ids[0] for frame in frames} for frames in drawn]
    assert [len(each) for each in ids] == [5, 5]
    assert ids[0] != ids[1]


FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
