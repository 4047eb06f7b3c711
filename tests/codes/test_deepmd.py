from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ionloop.codes import deepmd
from ionloop.codes.common.prediction import Prediction, force_errors
from ionloop.codes.common.training import Training, TrainingError
from ionloop.codes.deepmd import data, inputs, network, training, warm_start
from ionloop.codes.deepmd.checkpoint import Checkpoint, latest_checkpoint, unpack_checkpoint
from ionloop.codes.deepmd.data import Block, Systems, auto_prob, write_blocks
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.codes.deepmd.training import read_learning_curve
from ionloop.codes.deepmd.warm_start import OtherNetworkError
from ionloop.schemas.frames import Frames, divide

pytestmark = [
    # TensorFlow's Python side, on import.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:google"),
]

TYPE_MAP = ["Li", "Cl"]
TINY = DeepmdSettings(
    rcut=4.0,
    rcut_smth=2.0,
    neurons=[4, 8],
    axis_neurons=4,
    fitting=[16, 16],
    steps=600,
    learning_rate_start=1e-2,
    learning_rate_stop=1e-4,
    learning_rate_decay="cosine",
    warm_steps=100,
    warm_learning_rate=1e-3,
    disp_every=20,
)
needs_dp = pytest.mark.skipif(shutil.which("dp") is None, reason="DeePMD-kit is not installed")


def rock_salt(n_cells: int = 2, a: float = 4.0) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return symbols, positions (n, 3) and cell (3, 3) of a rock-salt supercell of edge n a."""
    corner = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    basis = np.concatenate([corner, corner + np.array([0.5, 0, 0])]) * a
    shifts = np.array(list(np.ndindex(n_cells, n_cells, n_cells))) * a
    positions = (basis[None] + shifts[:, None]).reshape(-1, 3)
    return ("Li",) * 4 + ("Cl",) * 4, positions, np.eye(3) * a * n_cells


def toy(n_frames: int, seed: int, *, a: float = 4.0, virials: bool = True) -> Frames:
    """Return rattled rock-salt cells of 8 atoms with Lennard-Jones labels."""
    from ase import Atoms
    from ase.calculators.lj import LennardJones

    symbols, positions, cell = rock_salt(1, a)
    rng = np.random.default_rng(seed)
    rattled = positions + rng.normal(scale=0.08, size=(n_frames, 8, 3))
    energies, forces, virial = [], [], []
    for frame in rattled:
        atoms = Atoms(symbols, positions=frame, cell=cell, pbc=True)
        atoms.calc = LennardJones(sigma=1.7, epsilon=0.2, rc=3.9, smooth=True)
        energies.append(atoms.get_potential_energy() - 30.0)
        forces.append(atoms.get_forces())
        virial.append(-atoms.get_stress(voigt=False) * atoms.get_volume())
    return Frames(
        symbols,
        rattled,
        np.repeat(cell[None], n_frames, axis=0),
        np.array(energies),
        np.array(forces),
        np.array(virial) if virials else None,
        "toy",
    )


def additive(symbols: tuple[str, ...], per_element: dict[str, float], n_frames: int) -> Frames:
    """Return frames whose energies are sums of energies per element, without forces."""
    rng = np.random.default_rng(len(symbols))
    n = len(symbols)
    grid = np.array(list(np.ndindex(3, 3, 3)))[:n] * 2.0
    energy = sum(per_element[symbol] for symbol in symbols)
    return Frames(
        symbols,
        grid + rng.normal(scale=0.05, size=(n_frames, n, 3)),
        np.repeat(np.eye(3)[None] * 6.0, n_frames, axis=0),
        np.full(n_frames, energy),
        np.zeros((n_frames, n, 3)),
        None,
        "toy",
    )


# --- neighbour numbers -------------------------------------------------------------------------


def lattice_frames() -> Frames:
    symbols, positions, cell = rock_salt(1)
    return Frames(symbols, positions[None], cell[None])


def test_neighbours_of_rock_salt():
    # Shells of rock salt, a = 4: 6 unlike at 2, 12 like at 2.83, 8 unlike at 3.46, 6 like at 4.
    counts = network.count_neighbours([lattice_frames()], 3.5, TYPE_MAP)
    assert counts.by_type == [14, 14]
    assert counts.total == 26


def test_sel_has_a_margin_and_is_a_multiple_of_four():
    frames = [lattice_frames()]
    assert network.choose_sel(frames, 3.5, TYPE_MAP) == [16, 16]
    assert network.choose_sel(frames, 3.5, TYPE_MAP, mixed=True) == [32]
    assert network.choose_sel(frames, 3.5, ["Cl", "Li", "Ag"]) == [16, 16, 4]


@given(st.floats(2.1, 5.0), st.integers(0, 1000))
def test_sel_never_below_the_neighbours(rcut: float, seed: int):
    symbols, positions, cell = rock_salt(1)
    rattled = positions + np.random.default_rng(seed).normal(scale=0.2, size=positions.shape)
    frames = Frames(symbols, rattled[None], cell[None])
    counts = network.count_neighbours([frames], rcut, TYPE_MAP)
    sel = network.choose_sel([frames], rcut, TYPE_MAP)
    assert all(room >= number for room, number in zip(sel, counts.by_type, strict=True))


def test_the_densest_frame_counts_even_in_a_large_set(monkeypatch):
    monkeypatch.setattr(network, "SAMPLED_ATOMS", 64)
    symbols, positions, cell = rock_salt(1)
    scale = np.full(101, 1.5)
    scale[37] = 1.0
    frames = Frames(symbols, scale[:, None, None] * positions, scale[:, None, None] * cell)
    assert network.count_neighbours([frames], 3.5, TYPE_MAP).by_type == [14, 14]


def test_an_element_outside_the_type_map_is_named():
    with pytest.raises(ValueError, match="Cl is not in the type map"):
        network.choose_sel([lattice_frames()], 3.0, ["Li"])


# --- settings and input ------------------------------------------------------------------------


def test_every_setting_is_described():
    fields = DeepmdSettings.model_fields
    assert [name for name, field in fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"rcut_smth": 7.0}, "rcut_smth"),
        ({"learning_rate_stop": 0.1}, "learning_rate_start"),
        ({"rcutt": 6.0}, "rcutt"),
        ({"backend": "jax"}, "backend"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], sentence: str):
    with pytest.raises(ValidationError, match=sentence):
        DeepmdSettings.model_validate(wrong)


def script(settings: DeepmdSettings, *, warm: bool = False, virials: bool = True) -> dict[str, Any]:
    model = network.model_section(settings, [lattice_frames()], TYPE_MAP)
    systems = Systems(["training/0"], has_virials=virials)
    return inputs.input_script(settings, model, systems, seed=3, warm=warm)


def test_input_of_a_standard_model():
    made = script(TINY)
    assert made["model"]["type_map"] == TYPE_MAP
    descriptor = made["model"]["descriptor"]
    assert (descriptor["type"], descriptor["rcut"], descriptor["neuron"]) == (
        "se_e2_a",
        4.0,
        [4, 8],
    )
    assert descriptor["seed"] == made["model"]["fitting_net"]["seed"] == 3
    assert made["training"]["seed"] == 3
    assert made["training"]["numb_steps"] == 600
    assert made["training"]["save_freq"] % made["training"]["disp_freq"] == 0
    assert "validation_data" not in made["training"]


@pytest.mark.parametrize(
    ("steps", "disp_every", "saved_every"),
    [(300, 100, 1000), (20_000, 100, 1000), (400_000, 100, 20_000), (30_000, 700, 2100)],
)
def test_long_trainings_are_saved_twenty_times(steps: int, disp_every: int, saved_every: int):
    made = script(TINY.model_copy(update={"steps": steps, "disp_every": disp_every}))
    assert made["training"]["save_freq"] == saved_every
    # DeePMD-kit saves only where it writes the learning curve.
    assert saved_every % made["training"]["disp_freq"] == 0


def test_chosen_learning_rates_are_a_cosine_and_given_ones_decay_exponentially():
    keys = ("learning_rate_start", "learning_rate_stop", "learning_rate_decay")
    chosen = TINY.model_copy(update=dict.fromkeys(keys))
    rates = {"type": "cosine", "start_lr": 5e-3, "stop_lr": 1e-6}
    assert script(chosen)["learning_rate"] == rates
    given = TINY.model_copy(update={"learning_rate_decay": None})
    rates = {"type": "exp", "start_lr": 1e-2, "stop_lr": 1e-4, "decay_steps": 3}
    assert script(given)["learning_rate"] == rates


def test_a_warm_start_has_its_own_steps_learning_rate_and_prefactors():
    made = script(TINY, warm=True)
    assert made["training"]["numb_steps"] == 100
    assert made["learning_rate"]["start_lr"] == 1e-3
    # A start from scratch looks at forces alone first, and would unlearn the energies.
    cold, warm = script(TINY)["loss"], made["loss"]
    assert (cold["start_pref_e"], cold["start_pref_f"]) == (0.02, 1000)
    assert warm["start_pref_f"] / warm["start_pref_e"] <= 1000
    assert warm["limit_pref_e"] == warm["limit_pref_f"] == 1
    assert script(TINY, warm=True, virials=False)["loss"]["start_pref_v"] == 0


@pytest.mark.parametrize(
    ("kind", "cold", "given", "warm"),
    [
        ("energy", (0.02, 1.0), None, (0.1, 1.0)),
        ("energy", (1.0, 2.0), None, (1.0, 2.0)),
        ("force", (1000.0, 10.0), None, (100.0, 10.0)),
        ("force", (1000.0, 10.0), (50.0, 1.0), (50.0, 1.0)),
        ("virial", (0.0, 0.0), None, (0.0, 0.0)),
        ("virial", (0.0, 0.0), (0.1, 1.0), (0.1, 1.0)),
    ],
)
def test_a_warm_start_ends_with_the_weights_of_the_training_unless_told(kind, cold, given, warm):
    keys = {f"{kind}_prefactors": cold, f"warm_{kind}_prefactors": given}
    settings = TINY.model_copy(update=keys)
    loss = script(settings, warm=True)["loss"]
    assert (loss[f"start_pref_{kind[0]}"], loss[f"limit_pref_{kind[0]}"]) == warm


@given(st.integers(1, 10_000), st.integers(1, 500), st.floats(0.1, 100))
def test_a_new_frame_is_drawn_so_many_times_as_often_as_a_learned_one(old, new, weight):
    blocks = [Block(2, old, 1.0), Block(1, new, weight)]
    ranges, shares = zip(*(b.rsplit(":", 1) for b in auto_prob(blocks).split(";")[1:]), strict=True)
    assert ranges == ("0:2", "2:3")
    share_old, share_new = map(float, shares)
    assert share_old + share_new == pytest.approx(1)
    rounded = 1e-6 * (old + weight * new)
    assert share_new * old == pytest.approx(weight * share_old * new, abs=rounded)


def test_frames_of_each_weight_become_a_block_learned_ones_first(tmp_path):
    few, many = toy(3, 1), toy(8, 2)
    learned = {few.ids[0], *many.ids[:5]}
    names, blocks = write_blocks({1.0: [many], 4.0: [few]}, learned, 3.0, tmp_path, TYPE_MAP)
    assert [name.split("/")[0] for name in names] == ["replay", "replay", "training", "training"]
    assert [(b.n_frames, b.weight) for b in blocks] == [(5, 1), (1, 4), (3, 3), (2, 12)]
    assert all((tmp_path / name / "set.000" / "force.npy").exists() for name in names)


def test_frames_are_divided_into_learned_and_new_ones():
    first, other = toy(3, 1), additive(("Li", "Cl", "Li"), {"Li": -1.0, "Cl": -2.0}, 2)
    learned, new = divide([first, other], frozenset([first.ids[1], other.ids[0]]))
    assert [part.ids for part in learned] == [first.ids[1:2], other.ids[:1]]
    assert [part.ids for part in new] == [(first.ids[0], first.ids[2]), other.ids[1:]]


def test_without_virials_they_have_no_weight():
    loss = script(TINY, virials=False)["loss"]
    assert loss["start_pref_v"] == loss["limit_pref_v"] == 0
    assert script(TINY)["loss"]["limit_pref_v"] == 1


def test_se_atten_has_one_sel():
    settings = TINY.model_copy(update={"model": "se_atten", "rcut": 3.5})
    assert script(settings)["model"]["descriptor"]["sel"] == 32


def test_a_given_model_is_completed_and_not_changed():
    given_model = {
        "descriptor": {
            "type": "hybrid",
            "list": [
                {"type": "se_e2_a", "rcut": 3.5, "sel": "auto", "seed": 99},
                {"type": "se_e2_r", "rcut": 3.5, "sel": [7, 9]},
            ],
        },
        "fitting_net": {"neuron": [8]},
    }
    before = json.dumps(given_model)
    model = script(DeepmdSettings(model=given_model))["model"]
    first, second = model["descriptor"]["list"]
    assert (first["sel"], second["sel"]) == ([16, 16], [7, 9])
    # The seeds of an ensemble must differ whatever the dictionary says.
    assert first["seed"] == second["seed"] == model["fitting_net"]["seed"] == 3
    assert json.dumps(given_model) == before


def test_a_model_is_continued_only_if_it_fits():
    settings = TINY.model_copy(update={"rcut": 3.5})
    frames = [lattice_frames()]
    earlier = network.model_section(settings, frames, TYPE_MAP)
    earlier["descriptor"]["sel"] = [40, 14]

    def go_on(types: list[str] = TYPE_MAP, suffix: str = "", **changes: Any) -> dict[str, Any]:
        checkpoint = Checkpoint(earlier, Path(f"model.ckpt-9{suffix}"))
        changed = settings.model_copy(update=changes)
        return warm_start.continued_model(changed, frames, types, checkpoint)

    assert go_on() == earlier
    for changes, keys in (
        ({"types": ["Cl", "Li"]}, r"type_map"),
        ({"fitting": [8], "neurons": [4]}, r"neurons, fitting"),
        ({"suffix": ".pt"}, r"backend"),
        ({"model": {"descriptor": {"type": "se_atten_v2", "rcut": 3.5}}}, r".*model, "),
    ):
        with pytest.raises(OtherNetworkError, match=rf"is another one \({keys}"):
            go_on(**changes)
    earlier["descriptor"]["sel"] = [40, 13]
    with pytest.raises(
        OtherNetworkError, match=r"more neighbours now than it has room for \(sel\)"
    ):
        go_on()


# --- systems -----------------------------------------------------------------------------------


def test_systems_by_composition_and_virials(tmp_path: Path):
    first, second, bare = toy(3, 1), toy(2, 2), toy(4, 3, virials=False)
    other = additive(("Li", "Cl", "Li"), {"Li": -1.0, "Cl": -2.0}, 2)
    names = data.write_systems([first, bare, other, second], tmp_path / "training", TYPE_MAP)
    assert names == [
        "training/000-Li4Cl4",
        "training/001-Li4Cl4",
        "training/002-Li2Cl1",
    ]
    assert (tmp_path / names[0] / "type.raw").read_text().split() == list("00001111")
    virial = np.load(tmp_path / names[0] / "set.000" / "virial.npy")
    assert virial.dtype == np.float64
    np.testing.assert_array_equal(virial[:3], first.virials.reshape(3, 9))
    assert not (tmp_path / names[1] / "set.000" / "virial.npy").exists()
    energies = np.load(tmp_path / names[2] / "set.000" / "energy.npy")
    np.testing.assert_array_equal(energies.ravel(), [-4.0, -4.0])


def test_systems_read_back_by_dpdata(tmp_path: Path):
    import dpdata

    frames = toy(3, 1)
    (name,) = data.write_systems([frames], tmp_path / "training", TYPE_MAP)
    system = dpdata.LabeledSystem(str(tmp_path / name), fmt="deepmd/npy")
    np.testing.assert_array_equal(system["coords"], frames.positions)
    np.testing.assert_array_equal(system["forces"], frames.forces)
    np.testing.assert_array_equal(system["virials"], frames.virials)


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ([toy(1, 1).unlabelled()], "label it first"),
        ([toy(1, 1), replace(toy(1, 2), level="other")], "levels of theory"),
    ],
)
def test_labels_that_do_not_fit(frames: list[Frames], sentence: str, tmp_path: Path):
    with pytest.raises(ValueError, match=sentence):
        data.write_systems(frames, tmp_path, TYPE_MAP)


# --- errors and learning curves ----------------------------------------------------------------


def test_force_errors_by_hand():
    frames, bare = toy(2, 1), toy(2, 2, virials=False)
    predictions = [
        Prediction(part.energies[None] + 0.8, part.forces[None] + 0.1, np.ones((1, 2, 3, 3)))
        for part in (frames, bare)
    ]
    errors = force_errors(predictions, [frames, bare])
    assert errors.n_frames == 4
    assert errors.energy_mev_per_atom == pytest.approx(100.0)
    assert errors.force_mev_per_angstrom == pytest.approx(100.0)
    expected = 1000 * np.sqrt(np.mean((1 - frames.virials) ** 2)) / 8
    assert errors.virial_mev_per_atom == pytest.approx(expected)
    both = np.concatenate([frames.forces, bare.forces])
    assert errors.force_rms_mev_per_angstrom == pytest.approx(1000 * np.sqrt(np.mean(both**2)))


def test_force_errors_of_an_ensemble_are_those_of_its_mean():
    frames = toy(2, 1)
    stacked = Prediction(
        np.stack([frames.energies - 1, frames.energies + 1]),
        np.stack([frames.forces - 1, frames.forces + 1]),
        np.stack([frames.virials, frames.virials]),
    )
    assert force_errors([stacked], [frames]).force_mev_per_angstrom == pytest.approx(0)


def test_errors_need_frames():
    with pytest.raises(ValueError, match="at least one labelled frame"):
        force_errors([], [])


def test_learning_curve_after_a_restart(tmp_path: Path):
    curve = tmp_path / "lcurve.out"
    header = "# step  rmse_trn  rmse_f_trn  lr\n# nan where there is no data\n"
    curve.write_text(header + "0 9 8 1\n50 7 6 1\n" + header + "50 5 4 1\n100 3 2 1\n")
    table = read_learning_curve(curve)
    assert table["step"].tolist() == [0, 50, 100]
    assert table["rmse_f_trn"].tolist() == [8, 4, 2]


def test_no_learning_curve(tmp_path: Path):
    with pytest.raises(TrainingError, match="did not begin"):
        read_learning_curve(tmp_path / "lcurve.out")


# --- programs ----------------------------------------------------------------------------------


def test_a_missing_program_is_named(tmp_path: Path):
    with pytest.raises(deepmd.MissingProgramError, match=r"dp-nowhere.*ionloop\[deepmd\]"):
        deepmd.program_version("dp-nowhere --fast")
    settings = TINY.model_copy(update={"command": "dp-nowhere"})
    with pytest.raises(deepmd.MissingProgramError, match="dp-nowhere"):
        deepmd.train(settings, [toy(2, 1)], type_map=TYPE_MAP, seed=1, folder=tmp_path)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo hello", "does not answer as DeePMD-kit does but with 'hello'"),
        ("echo 'no licence'; exit 3", "exit status 3: no licence"),
        ("kill -11 $$", "SIGSEGV"),
    ],
)
def test_a_program_that_is_not_deepmd_kit_is_told(script: str, sentence: str, tmp_path: Path):
    program = tmp_path / "dp"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(deepmd.MissingProgramError, match=re.escape(sentence)):
        deepmd.program_version(str(program))


def fake_dp(folder: Path, body: str) -> DeepmdSettings:
    """Return settings with a program in the place of `dp`."""
    program = folder / "fake_dp.py"
    program.write_text(body)
    return TINY.model_copy(update={"command": f"{sys.executable} {program}"})


NAN_AT_50 = """
from pathlib import Path
Path("checkpoint").write_text('"model.ckpt-50"')
Path("model.ckpt-50.meta").touch()
curve = "# step rmse_trn rmse_e_trn rmse_f_trn rmse_v_trn lr\\n0 1 1 1 nan 1\\n50 1 1 nan nan 1\\n"
Path("lcurve.out").write_text(curve)
print("out of luck")
"""


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            "print('early line\\n' * 20 + 'out of luck'); raise SystemExit(3)",
            "exit status 3: out of luck",
        ),
        (
            "import os; print('out of luck', flush=True); os.kill(os.getpid(), 11)",
            "SIGSEGV (Segmentation fault): out of luck",
        ),
        ("print('out of luck')", "no checkpoint"),
        (NAN_AT_50, "rmse_f_trn is not finite at step 50"),
    ],
)
def test_a_failing_program_shows_its_last_lines(body: str, sentence: str, tmp_path: Path):
    settings = fake_dp(tmp_path, body)
    with pytest.raises(TrainingError, match=rf"(?s){re.escape(sentence)}.*out of luck") as error:
        deepmd.train(settings, [toy(2, 1)], type_map=TYPE_MAP, seed=1, folder=tmp_path / "run")
    assert len(str(error.value).splitlines()) <= 16


def test_a_checkpoint_without_its_graph_is_passed_over(tmp_path: Path):
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "model.ckpt-30"\n'
        'all_model_checkpoint_paths: "model.ckpt-10"\n'
        'all_model_checkpoint_paths: "model.ckpt-20"\n'
        'all_model_checkpoint_paths: "model.ckpt-30"\n'
    )
    for step in (10, 20):
        (tmp_path / f"model.ckpt-{step}.meta").touch()
    assert latest_checkpoint(tmp_path) == tmp_path / "model.ckpt-20"


def test_the_checkpoint_of_pytorch_is_a_file(tmp_path: Path):
    (tmp_path / "checkpoint").write_text("model.ckpt-20.pt\n")
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "model.ckpt-20.pt").touch()
    assert latest_checkpoint(tmp_path) == tmp_path / "model.ckpt-20.pt"


TRAINS = """
import sys
from pathlib import Path
if "train" in sys.argv:
    with Path("../starts").open("a") as file:
        file.write(" ".join(sys.argv[3:]) + "\\n")
    raise SystemExit(1)
"""


def test_other_data_begin_anew(tmp_path: Path):
    settings = fake_dp(tmp_path, TRAINS)
    for seed in (1, 1, 2):
        with pytest.raises(TrainingError, match="status 1"):
            folder = tmp_path / "run"
            deepmd.train(settings, [toy(2, seed)], type_map=TYPE_MAP, seed=1, folder=folder)
        (folder / "checkpoint").write_text("model.ckpt-20.pt")
        (folder / "model.ckpt-20.pt").touch()
    starts = (tmp_path / "starts").read_text().splitlines()
    assert [start.partition("input.json")[2] for start in starts] == [
        "",
        " --restart model.ckpt-20.pt",
        "",
    ]


def test_a_kill_as_other_data_begin_does_not_hand_them_the_old_checkpoint(
    tmp_path: Path, killed_at: Callable[[str], AbstractContextManager[None]]
):
    settings, folder = fake_dp(tmp_path, TRAINS), tmp_path / "run"

    def train(seed: int) -> None:
        deepmd.train(settings, [toy(2, seed)], type_map=TYPE_MAP, seed=1, folder=folder)

    with pytest.raises(TrainingError, match="status 1"):
        train(seed=1)
    (folder / "checkpoint").write_text("model.ckpt-20.pt")
    (folder / "model.ckpt-20.pt").touch()
    with killed_at("model.ckpt-20.pt"):
        train(seed=2)
    assert (folder / "model.ckpt-20.pt").exists()
    with pytest.raises(TrainingError, match="status 1"):
        train(seed=2)
    assert "--restart" not in (tmp_path / "starts").read_text()


def test_nothing_to_train_on(tmp_path: Path):
    with pytest.raises(ValueError, match="no frame"):
        deepmd.train(TINY, [toy(2, 1)[:0]], type_map=TYPE_MAP, seed=1, folder=tmp_path)


def test_a_torch_that_does_not_fit_is_told_in_a_sentence(monkeypatch):
    env = pytest.importorskip("deepmd.env")
    monkeypatch.setitem(env.GLOBAL_CONFIG, "pt_version", "1.2.3")
    with pytest.raises(deepmd.MissingProgramError, match=r"built for PyTorch 1\.2\.3"):
        deepmd.check_backend("pytorch")


# --- the real thing ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Return a model trained on 20 frames with and 4 without virials."""
    folder = tmp_path_factory.mktemp("cold")
    data = [toy(20, 1), toy(4, 2, virials=False)]
    return deepmd.train(TINY, data, [toy(6, 3)], type_map=TYPE_MAP, seed=7, folder=folder)


@needs_dp
@pytest.mark.integration
def test_a_training_learns(cold: Training):
    assert cold.model.name == "model.pb"
    assert not cold.warm_start
    assert cold.steps == 600
    assert cold.learning_curve["step"].tolist() == list(range(0, 601, 20))
    assert cold.train_errors.n_frames == 24
    errors = cold.validation_errors
    assert errors is not None
    assert errors.force_mev_per_angstrom < 0.5 * errors.force_rms_mev_per_angstrom
    assert errors.virial_mev_per_atom is not None


@needs_dp
@pytest.mark.integration
def test_prediction_forces_are_minus_the_slope_of_the_energy(cold: Training, tmp_path: Path):
    frame, h = toy(1, 5), 1e-4
    shift = np.zeros((2, 8, 3))
    shift[:, 2, 1] = -h, h
    moved = Frames(frame.symbols, frame.positions + shift, np.repeat(frame.cells, 2, axis=0))
    energies = deepmd.predict([cold.model], moved, tmp_path).energies[0]
    prediction = deepmd.predict([cold.model, cold.model], frame, tmp_path)
    assert prediction.forces.shape == (2, 1, 8, 3)
    assert prediction.virials.shape == (2, 1, 3, 3)
    slope = (energies[1] - energies[0]) / (2 * h)
    assert prediction.forces[0, 0, 2, 1] == pytest.approx(-slope, abs=1e-5)


@needs_dp
@pytest.mark.integration
def test_prediction_virial_is_minus_the_strain_derivative(cold: Training, tmp_path: Path):
    frame, h = toy(1, 5), 1e-5
    strains = np.array([np.eye(3) * (1 + s) for s in (-h, h)])
    strained = Frames(
        frame.symbols,
        np.einsum("fxy,ny->fnx", strains, frame.positions[0]),
        np.einsum("fxy,cy->fcx", strains, frame.cells[0]),
    )
    low, high = deepmd.predict([cold.model], strained, tmp_path).energies[0]
    trace = np.trace(deepmd.predict([cold.model], frame, tmp_path).virials[0, 0])
    assert trace == pytest.approx(-(high - low) / (2 * h), rel=1e-4, abs=1e-4)


@needs_dp
@pytest.mark.integration
def test_a_warm_start_goes_on_from_the_checkpoint(cold: Training, tmp_path: Path):
    known, new = toy(20, 1), toy(8, 9)
    warm = deepmd.train(
        TINY,
        [known, toy(4, 2, virials=False), new],
        type_map=TYPE_MAP,
        seed=7,
        folder=tmp_path,
        checkpoint=cold.checkpoint,
    )
    assert warm.warm_start
    assert not warm.obstacle
    assert warm.steps == 100
    # What it has learned comes first, and is drawn as often as 8 new frames of weight 3.
    data = json.loads((tmp_path / "input.json").read_text())["training"]["training_data"]
    assert [name.split("/")[0] for name in data["systems"]] == ["replay", "replay", "training"]
    assert data["auto_prob"] == "prob_sys_size;0:2:0.500000;2:3:0.500000"
    # From the first step on it stands where the other ended, far below where a cold one begins.
    assert warm.learning_curve["rmse_e_trn"][0] < 0.1 * cold.learning_curve["rmse_e_trn"][0]
    before, after = (
        force_errors([deepmd.predict([model], known, tmp_path)], [known])
        for model in (cold.model, warm.model)
    )
    assert after.force_mev_per_angstrom < 1.25 * before.force_mev_per_angstrom


@needs_dp
@pytest.mark.integration
def test_data_too_dense_for_the_checkpoint_start_cold(cold: Training, tmp_path: Path):
    def starting_point(frames: Frames):
        return training._starting_point(TINY, [frames], TYPE_MAP, tmp_path, cold.checkpoint)

    fits, too_dense = starting_point(toy(3, 1)), starting_point(toy(3, 1, a=3.2))
    assert fits.checkpoint.path == tmp_path / "warm" / "model.ckpt-600"
    assert fits.checkpoint.learned == {*toy(20, 1).ids, *toy(4, 2, virials=False).ids}
    assert too_dense.checkpoint is None
    assert "more neighbours" in too_dense.obstacle
    assert too_dense.model["descriptor"]["sel"] > fits.model["descriptor"]["sel"]


@needs_dp
@pytest.mark.integration
def test_learning_that_breaks_down_is_an_error(tmp_path: Path):
    settings = TINY.model_copy(update={"learning_rate_start": 1e150, "steps": 40})
    with pytest.raises(TrainingError, match="NaN detected"):
        deepmd.train(settings, [toy(4, 1)], type_map=TYPE_MAP, seed=1, folder=tmp_path)


@needs_dp
@pytest.mark.integration
def test_an_interrupted_training_is_continued(tmp_path: Path):
    settings = TINY.model_copy(update={"steps": 4000, "disp_every": 200})
    data = tmp_path / "data.json"
    data.write_text(json.dumps([settings.model_dump(), toy(8, 1).as_dict()]))
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(data), str(folder)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_for(folder / "model.ckpt.meta")  # the link is made last
        os.killpg(process.pid, signal.SIGKILL)
    before = read_learning_curve(folder / "lcurve.out")
    assert before["step"][-1] < 4000
    training = deepmd.train(settings, [toy(8, 1)], type_map=TYPE_MAP, seed=1, folder=folder)
    after = training.learning_curve
    assert after["step"].tolist() == list(range(0, 4001, 200))
    saved = after["step"] < 1000
    np.testing.assert_array_equal(after["rmse_f_trn"][saved], before["rmse_f_trn"][:5])
    log = (folder / "train.log").read_text()
    assert "restart from model" in log
    assert min(batches(log)) >= 1000

    # Of a training that is through, the model is frozen once more and no step is done again.
    again = deepmd.train(settings, [toy(8, 1)], type_map=TYPE_MAP, seed=1, folder=folder)
    assert (folder / "train.log").read_text() == log
    assert again.train_errors == training.train_errors
    assert again.learning_curve["step"].tolist() == after["step"].tolist()


def batches(log: str) -> list[int]:
    """Return the steps that a log of `dp train` tells of."""
    found = [int(step) for step in re.findall(r"[Bb]atch\s+(\d+):", log)]
    assert found
    return found


INTERRUPTED = """
import json, sys
from pathlib import Path
from ionloop.codes import deepmd
from ionloop.schemas.frames import Frames
settings, frames = json.loads(Path(sys.argv[1]).read_text())
deepmd.train(
    deepmd.DeepmdSettings(**settings),
    [Frames.from_dict(frames)],
    type_map=["Li", "Cl"],
    seed=1,
    folder=Path(sys.argv[2]),
)
"""


def wait_for(path: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear in {seconds} s"
        time.sleep(0.05)


@needs_dp
@pytest.mark.integration
def test_the_energy_bias_is_left_to_deepmd_kit_and_right(tmp_path: Path):
    # The compositions determine Li, but of Cl and Br only the sum: there the norm is the least.
    per_element = {"Li": -2.0, "Cl": -5.0, "Br": -3.0}
    frames = [
        additive(("Li", "Cl", "Br"), per_element, 3),
        additive(("Li", "Li", "Cl", "Br"), per_element, 2),
    ]
    settings = TINY.model_copy(update={"steps": 1, "rcut": 2.9})
    training = deepmd.train(
        settings, frames, type_map=["Li", "Cl", "Br"], seed=1, folder=tmp_path / "run"
    )
    start = unpack_checkpoint(training.checkpoint, tmp_path / "look").path
    from tensorflow.train import load_variable

    bias = load_variable(str(start), "fitting_attr/t_bias_atom_e")
    assert bias == pytest.approx([-2.0, -4.0, -4.0])
