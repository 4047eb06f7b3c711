"""The published DFT frames of LGPS that `labels.py` replays: pool, picks and test frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ionloop.codes.common.prediction import Prediction
from ionloop.formats.reading import read_frames
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.packed import Array

VARIABLE = "IONLOOP_TEST_DATA"

PLACE = Path(__file__).parents[2] / "shared/data/lgps_dpgen"
"""Where the frames are looked for, if neither the option nor the variable says."""

TYPE_MAP = ["Li", "Ge", "P", "S"]
POOL = ["init", "iteration-0", "iteration-1", "iteration-2", "iteration-3"]
LATER = ["iteration-4", "iteration-5", "iteration-6", "iteration-7"]


@dataclass(frozen=True)
class Score:
    """Root-mean-square errors on test frames.

    Parameters
    ----------
    n_frames
        Frames compared.
    force
        Of the force components, in meV/Å.
    force_scale
        Of the reference force components themselves, in meV/Å.
    energy
        Of the energies per atom as they are, in meV/atom.
    energy_shifted
        The same after one constant per atom is subtracted, the mean difference over all frames:
        what is left matters for dynamics.
    """

    n_frames: int
    force: float
    force_scale: float
    energy: float
    energy_shifted: float


def find_data(given: Path | None = None) -> Path:
    """Return the folder of the published frames.

    Parameters
    ----------
    given
        The folder, if an option names it.

    Raises
    ------
    InputError
        If a part of the data is not there.
    """
    folder = given or Path(os.environ.get(VARIABLE, PLACE))
    missing = [name for name in [*POOL, *LATER] if not (folder / name / "type.raw").is_file()]
    if missing:
        raise InputError(
            f"{folder} does not hold the published frames of LGPS ({', '.join(missing)} missing); "
            f"name their folder with --data or the environment variable {VARIABLE}. It has the "
            "systems init and iteration-0 to iteration-7 in DeePMD-kit's npy format"
        )
    return folder


def read_pool(folder: Path) -> list[Frames]:
    """Return the frames whose labels can be asked for: the initial ones and iterations 0 to 3."""
    return [part for name in POOL for part in read_frames(folder / name, "deepmd/npy", TYPE_MAP)]


def pick(pool: Sequence[Frames], n: int | None, seed: int) -> list[Frames]:
    """Return frames picked at random; with one seed, the smaller picks are parts of the larger.

    Parameters
    ----------
    pool
        What to pick from.
    n
        Number of frames; None: all.
    seed
        Seed of the order of the pool.

    Raises
    ------
    InputError
        If the pool is smaller.
    """
    total = sum(map(len, pool))
    if n is not None and n > total:
        raise InputError(f"{n} labels are asked for, and the pool has {total}")
    chosen = np.zeros(total, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(total)[:n]] = True
    masks = np.split(chosen, np.cumsum([len(part) for part in pool])[:-1])
    return concatenate(part[mask] for part, mask in zip(pool, masks, strict=True))


def later_frames(folder: Path, n_test: int, n_tuning: int) -> tuple[list[Frames], list[Frames]]:
    """Return frames of the later iterations: those that judge, and those that stop a training.

    Both are spread evenly over the iterations, have no frame in common, and are the same in every
    call.

    Parameters
    ----------
    folder
        The published frames.
    n_test, n_tuning
        Frames of each of the four iterations.
    """
    test, tuning = [], []
    for name in LATER:
        (frames,) = read_frames(folder / name, "deepmd/npy", TYPE_MAP)
        order = np.random.default_rng(0).permutation(len(frames))
        test.append(frames[np.sort(order[:n_test])])
        tuning.append(frames[np.sort(order[n_test : n_test + n_tuning])])
    return concatenate(test), concatenate(tuning)


def score(frames: Sequence[Frames], predict: Callable[[Frames], Prediction]) -> Score:
    """Compare predictions with labels.

    Parameters
    ----------
    frames
        Labelled frames.
    predict
        Predicts frames; of several models, the mean counts.
    """
    forces, scale, energies = [], [], []
    for part in frames:
        assert part.forces is not None
        assert part.energies is not None
        mean = predict(part).mean
        forces.append((mean.forces[0] - part.forces).ravel())
        scale.append(part.forces.ravel())
        energies.append((mean.energies[0] - part.energies) / part.n_atoms)
    energy = np.concatenate(energies)
    return Score(
        n_frames=len(energy),
        force=rms(np.concatenate(forces)),
        force_scale=rms(np.concatenate(scale)),
        energy=rms(energy),
        energy_shifted=rms(energy - energy.mean()),
    )


def rms(differences: Array) -> float:
    """Return the root mean square in thousandths."""
    return 1000 * float(np.sqrt(np.mean(differences**2)))
