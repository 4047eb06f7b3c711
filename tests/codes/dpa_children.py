"""What tests of DPA models run in processes of their own, with a DeePMD-kit that fits the torch.

The library of operations in DeePMD-kit's wheel belongs to one version of torch. Without it all is
calculated in Python, so these processes see the package without that file.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ionloop.schemas.frames import Frames

ELEMENTS = ["H", "Li", "O", "Cl", "Na"]
"""Elements of the base, more than those of the labels."""

TYPE_MAP = ["Cl", "Li"]
"""Elements of the run, in another order than those of the base."""

LIBRARY = "libdeepmd_op_pt.so"


def overlay(folder: Path) -> dict[str, str]:
    """Link DeePMD-kit without its library into a folder; return the environment that finds it.

    Parameters
    ----------
    folder
        Where the links are made.
    """
    spec = find_spec("deepmd")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = Path(spec.submodule_search_locations[0])
    (folder / "deepmd" / "lib").mkdir(parents=True)
    for path in package.iterdir():
        if path.name != "lib":
            (folder / "deepmd" / path.name).symlink_to(path)
    for path in (package / "lib").iterdir():
        if path.name != LIBRARY:
            (folder / "deepmd" / "lib" / path.name).symlink_to(path)
    paths = [str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "NUM_WORKERS": "0"}


def crystals(n_frames: int, seed: int, strength: float, shift: float) -> Frames:
    """Return rattled rock-salt cells of 8 atoms with labels of a Morse potential.

    Parameters
    ----------
    n_frames
        How many.
    seed
        Seed of the displacements.
    strength
        Depth of the potential in eV: two of them are two levels of theory.
    shift
        Energy in eV that is added to every frame.
    """
    from ase import Atoms
    from ase.calculators.morse import MorsePotential

    corner = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    sites = np.concatenate([corner, corner + np.array([0.5, 0, 0])]) * 4.0
    symbols = ("Li",) * 4 + ("Cl",) * 4
    moves = np.random.default_rng(seed).normal(scale=0.12, size=(n_frames, 8, 3))
    energies, forces = [], []
    for positions in sites + moves:
        atoms = Atoms(symbols, positions=positions, cell=np.eye(3) * 4.0, pbc=True)
        atoms.calc = MorsePotential(epsilon=strength, r0=2.0, rho0=3.0, rcut1=1.5, rcut2=1.9)
        energies.append(atoms.get_potential_energy() + shift)
        forces.append(atoms.get_forces())
    cells = np.repeat(np.eye(3)[None] * 4.0, n_frames, axis=0)
    return Frames(symbols, sites + moves, cells, np.array(energies), np.array(forces), None, "toy")


def labels() -> tuple[Frames, Frames]:
    """Return a few labels to train on, and others that are held back."""
    return crystals(10, 5, 0.8, -40.0), crystals(4, 6, 0.8, -40.0)


def make_base(folder: Path) -> Path:
    """Train a tiny model of two branches, in this process, and return its checkpoint.

    Parameters
    ----------
    folder
        Where it is trained.
    """
    from deepmd.pt.entrypoints.main import main

    from ionloop.codes.deepmd.data import write_systems

    for name, seed, strength in (("first", 1, 0.7), ("second", 2, 0.2)):
        write_systems([crystals(16, seed, strength, -20.0)], folder / name, ELEMENTS)
    (folder / "input.json").write_text(json.dumps(base_input(folder)))
    os.chdir(folder)
    main(["--pt", "train", "--skip-neighbor-stat", "input.json"])
    return folder / "model.ckpt.pt"


def base_input(folder: Path) -> dict[str, Any]:
    """Return the input of the training of two branches.

    Parameters
    ----------
    folder
        Folder with the systems of each branch.
    """
    descriptor = {
        "type": "dpa1",
        "rcut": 3.8,
        "rcut_smth": 1.0,
        "sel": 50,
        "neuron": [4, 8],
        "axis_neuron": 4,
        "attn_layer": 0,
        "tebd_dim": 4,
        "seed": 1,
    }
    fitting = {"neuron": [16, 16], "seed": 1, "dim_case_embd": 2}
    names = ("first", "second")
    section = {"type_map": "elements", "descriptor": "net", "fitting_net": fitting}
    sections = {name: section | {"model_branch_alias": [f"{name}-alias"]} for name in names}
    systems = {name: [str(path) for path in (folder.resolve() / name).iterdir()] for name in names}
    weights = {"e": 1, "f": 10, "v": 0}
    loss = {f"{end}_pref_{k}": w for k, w in weights.items() for end in ("start", "limit")}
    data = {n: {"training_data": {"systems": systems[n], "batch_size": 4}} for n in names}
    return {
        "model": {"shared_dict": {"elements": ELEMENTS, "net": descriptor}, "model_dict": sections},
        "learning_rate": {"type": "exp", "start_lr": 1e-2, "stop_lr": 1e-3, "decay_steps": 2},
        "loss_dict": {name: {"type": "ener", **loss} for name in names},
        "training": {
            "model_prob": dict.fromkeys(names, 1.0),
            "data_dict": data,
            "seed": 1,
            "numb_steps": 80,
            "disp_freq": 80,
            "save_freq": 80,
        },
    }


def fine_tune(base: Path, folder: Path) -> dict[str, Any]:
    """Fine-tune the first branch in a folder, or go on there; return what became of it.

    Parameters
    ----------
    base
        Checkpoint of the base.
    folder
        Folder of the training.
    """
    from ionloop.codes.common.prediction import force_errors
    from ionloop.codes.deepmd.prediction import calculator, predict
    from ionloop.codes.dpa import DpaSettings
    from ionloop.codes.dpa.pretrained import read_base, read_trained
    from ionloop.formats.ase import to_ase

    settings = DpaSettings(
        base=str(base), branch="FIRST-alias", steps=80, check_every=20, learning_rate=1e-2
    )
    training, held = labels()
    made = settings.train([training], [held], type_map=TYPE_MAP, seed=1, folder=folder)
    before = predict([read_base(base, "first").packed("base.pt")], held, folder)
    atoms = to_ase(held)[0]
    atoms.calc = delivered = calculator(made.model.write(folder, "delivered.pth"))
    energy = float(atoms.get_potential_energy())
    foreign = Frames(("Na",) * 8, held.positions, held.cells)
    try:
        predict([made.model], foreign, folder)
        refused = ""
    except ValueError as error:
        refused = str(error)
    kept = read_trained(made.checkpoint.write(folder, "kept.pt"))
    return {
        "before": force_errors([before], [held]).force_mev_per_angstrom,
        "after": made.validation_errors.model_dump() if made.validation_errors else None,
        "train": made.train_errors.model_dump(),
        "steps": made.steps,
        "curve": made.learning_curve["step"].tolist(),
        "kept": kept.type_map,
        "branch": kept.branch,
        "biases": kept.state["model.Default.atomic_model.out_bias"].reshape(-1).tolist(),
        "delivered": list(getattr(delivered, "type_dict", [])),
        "energies": [energy, float(predict([made.model], held, folder).energies[0, 0])],
        "refused": refused,
    }


if __name__ == "__main__":
    home = Path(sys.argv[1]).resolve()
    checkpoint = home / "base" / "model.ckpt.pt"
    if not checkpoint.exists():
        (home / "base").mkdir()
        make_base(home / "base")
    (home / "result.json").write_text(json.dumps(fine_tune(checkpoint, home / "run")))
