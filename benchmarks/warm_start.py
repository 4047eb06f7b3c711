"""Compare the errors of a model before and after a warm start, on old and on new frames.

A DeePMD model of LGPS learns frames labelled by SevenNet (7net-0). Then it gets as many frames with
larger displacements as a turn would add, and starts warm: with the prefactors of a start from
scratch, and with those of a warm start. The ratios are of errors on held-out frames; above 1 the
model has become worse. Run as
``OMP_NUM_THREADS=1 python benchmarks/warm_start.py``; it takes minutes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ionloop.codes import deepmd
from ionloop.codes.common.ase import calculate
from ionloop.codes.common.prediction import force_errors
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.formats.reading import load_structures
from ionloop.geometry.perturb import perturb
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import ForceErrors, StoredFile

LGPS = Path(__file__).parents[1] / "examples/lgps/LGPS.vasp"
TYPE_MAP = ["Li", "Ge", "P", "S"]
N_OLD, N_NEW, N_TEST = 60, 20, 20
OLD, NEW = 0.1, 0.25
"""Largest displacements in Å: of the frames learned first, and of those learned then."""

SETTINGS = DeepmdSettings(
    rcut=5.0,
    neurons=[8, 16],
    axis_neurons=4,
    fitting=[32, 32],
    steps=4000,
    learning_rate_start=3e-3,
    learning_rate_stop=1e-6,
    warm_steps=1000,
    warm_learning_rate=1e-3,
)
AS_FROM_SCRATCH = {
    "warm_energy_prefactors": SETTINGS.energy_prefactors,
    "warm_force_prefactors": SETTINGS.force_prefactors,
    "warm_virial_prefactors": SETTINGS.virial_prefactors,
}
WARM_STARTS = {
    "prefactors of a start from scratch": AS_FROM_SCRATCH | {"warm_new_weight": 1.0},
    "warm prefactors, all frames equally often": {"warm_new_weight": 1.0},
    "warm prefactors, new frames more often": {},
}


def labelled(displacement: float, n: int, seed: int) -> Frames:
    """Return perturbed frames of LGPS with labels."""
    (start,) = load_structures([LGPS])
    frames = perturb(start, n, displacement=displacement, strain=0.02, seed=seed)
    settings = ForceFieldSettings(model="7net-0")
    calculator = settings.ase_calculator(Path.cwd())
    results = [calculate(calculator, frames[index]) for index in range(n)]
    return Frames(
        frames.symbols,
        frames.positions,
        frames.cells,
        np.array([result.energy for result in results]),
        np.array([result.forces for result in results]),
        np.array([result.virial for result in results]),
    )


def errors(model: StoredFile, frames: Frames, folder: Path) -> ForceErrors:
    """Return the errors of a model on frames."""
    return force_errors([deepmd.predict([model], frames, folder)], [frames])


def report(name: str, now: ForceErrors, before: ForceErrors) -> None:
    """Print the ratios of errors to those before."""
    print(
        f"{name}: energies {now.energy_mev_per_atom / before.energy_mev_per_atom:.2f} of "
        f"{before.energy_mev_per_atom:.2f} meV/atom, forces "
        f"{now.force_mev_per_angstrom / before.force_mev_per_angstrom:.2f} of "
        f"{before.force_mev_per_angstrom:.0f} meV/Å",
        flush=True,
    )


def compare(folder: Path) -> None:
    """Train once from scratch, then with each kind of warm start."""
    old, new = labelled(OLD, N_OLD, seed=1), labelled(NEW, N_NEW, seed=2)
    old_test, new_test = labelled(OLD, N_TEST, seed=3), labelled(NEW, N_TEST, seed=4)
    first = deepmd.train(SETTINGS, [old], type_map=TYPE_MAP, seed=1, folder=folder / "first")
    before = [errors(first.model, test, folder) for test in (old_test, new_test)]
    for number, (name, changes) in enumerate(WARM_STARTS.items()):
        warm = deepmd.train(
            SETTINGS.model_copy(update=changes),
            [old, new],
            type_map=TYPE_MAP,
            seed=2,
            folder=folder / str(number),
            checkpoint=first.checkpoint,
        )
        report(f"{name}, old frames", errors(warm.model, old_test, folder), before[0])
        report(f"{name}, new frames", errors(warm.model, new_test, folder), before[1])


def main() -> None:
    """Run everything."""
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder))


if __name__ == "__main__":
    main()
