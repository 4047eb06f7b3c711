"""The examples of other materials, run to their end: the potential holds for 100 ps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.ase import dynamics
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.codes.mace import MaceSettings
from ionloop.formats.reading import load_structures
from ionloop.geometry.perturb import perturb
from ionloop.runfile.reading import load
from ionloop.schemas.frames import Frames

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MACE = "IONLOOP_TEST_MACE"


def test_a_student_of_sevennet_holds_in_nasicon(tmp_path: Path) -> None:
    run_and_hold(EXAMPLES / "nasicon/run.yaml", tmp_path)


def test_a_student_of_sevennet_holds_in_a_mixed_halide(tmp_path: Path) -> None:
    run_and_hold(EXAMPLES / "li3inybrcl/run.yaml", tmp_path)


def test_a_student_of_mace_holds_in_nasicon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if MACE not in os.environ:
        pytest.skip(f"{MACE} is not set to the command of the Python of MACE's environment")
    monkeypatch.setenv("IONLOOP_MACE_PYTHON", os.environ[MACE])
    for file in (EXAMPLES / "nasicon").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_base(tmp_path)
    run_and_hold(tmp_path / "mace.yaml", tmp_path)


def write_base(folder: Path) -> None:
    """Train a small MACE on molecular dynamics of 7net-0, in place of a published one."""
    (start,) = load_structures([folder / "Na3Zr2Si2PO12.vasp"])
    labelled = frames_of_dynamics(start, folder)
    held_back = [part[::10] for part in labelled]
    trained_on = [part[np.arange(len(part)) % 10 > 0] for part in labelled]
    settings = MaceSettings(base="scratch", steps=2000, channels=16, learning_rate=0.01)
    trained = settings.train(
        trained_on,
        held_back,
        type_map=list(dict.fromkeys(start.symbols)),
        seed=1,
        folder=folder / "base",
        alone=True,
    )
    trained.model.write(folder, "mace-mp-small.model")


def frames_of_dynamics(start: Frames, folder: Path) -> list[Frames]:
    """Return labelled frames of 7net-0 at and far above the temperatures that are explored."""
    calculator = ForceFieldSettings(model="7net-0").ase_calculator(folder)
    begin = perturb(start, 1, displacement=0.2, strain=0.0, seed=1)
    return [
        frames_of(begin, list(dynamics(calculator, begin, run)))
        for run in (
            MolecularDynamics(temperature=each, steps=400, skip=100, every=10)
            for each in (800, 1500)
        )
    ]


def frames_of(begin: Frames, steps: list[Calculated]) -> Frames:
    """Return steps of molecular dynamics as frames with energies and forces."""
    keys = ("positions", "cell", "energy", "forces")
    positions, cells, energies, forces = (
        np.array([getattr(step, key) for step in steps]) for key in keys
    )
    return Frames(begin.symbols, positions, cells, energies=energies, forces=forces)


def run_and_hold(run_file: Path, folder: Path) -> None:
    """Run to the end, and then 100 ps at the highest explored temperature."""
    store, potential, run = str(folder / "ionloop.db"), folder / "potential", load(run_file)
    ionloop = [sys.executable, "-m", "ionloop.cli"]
    export = ["export", run.name, "models", "--store", store, "--out", str(potential)]
    hottest = max(t for stage in run.stages for t in stage.temperatures)
    hold = [sys.executable, str(ROOT / "benchmarks/md_stability.py"), str(run.structures[0])]
    cells = map(str, run.stages[-1].supercell)
    given = [str(potential / "potential-0.pb"), "-T", str(hottest), "--work", str(folder / "md")]
    subprocess.run([*ionloop, "run", str(run_file), "--store", store], check=True, cwd=folder)
    subprocess.run([*ionloop, *export], check=True, cwd=folder)
    subprocess.run([*hold, *given, "--cells", *cells], check=True, cwd=folder)
