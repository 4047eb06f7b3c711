"""Compare GPAW with CP2K, and both with published VASP labels, on frames of LGPS.

Needs the commands of the programs (docs/dft.md) and the published frames:

    export IONLOOP_TEST_GPAW="mpirun.openmpi -np {cores} /opt/gpaw/bin/gpaw python"
    export IONLOOP_TEST_CP2K="mpirun.openmpi -np {cores} cp2k.psmp"
    export IONLOOP_TEST_DATA=FOLDER       # holds iteration-0 … of Huang et al. 2021
    python benchmarks/gpaw_against_cp2k.py [OUT]

Results are kept in OUT, one file per frame and program; existing results are not calculated again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.cp2k.settings import Cp2kSettings
from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.formats.reading import read_frames
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array

CORES = 2
TYPES = ["Li", "Ge", "P", "S"]
GPA = 160.21766  # GPa in an eV/Å³


def frames() -> list[Frames]:
    """Return five published frames, from the first to the last iteration of 50 atoms."""
    data = Path(os.environ["IONLOOP_TEST_DATA"])
    places = [(0, 20), (1, 90), (2, 130), (3, 5), (3, 290)]
    return [
        read_frames(data / f"iteration-{part}", "deepmd/npy", TYPES)[0][index]
        for part, index in places
    ]


def programs() -> dict[str, Callable[[Frames, Path], Calculated]]:
    """Return functions that calculate a frame in a folder, by name."""
    mpi_gpaw, mpi_cp2k = os.environ["IONLOOP_TEST_GPAW"], os.environ["IONLOOP_TEST_CP2K"]
    low = GpawSettings(command=mpi_gpaw, cutoff=340, kpoints="gamma")
    high = GpawSettings(command=mpi_gpaw, cutoff=500, kpoints="gamma")
    gaussians = Cp2kSettings(command=mpi_cp2k, cutoff=500, kpoints="gamma")
    return {
        "GPAW 340 eV": lambda frame, folder: low.calculate(frame, folder, CORES),
        "GPAW 500 eV": lambda frame, folder: high.calculate(frame, folder, CORES),
        "CP2K 500 Ry": lambda frame, folder: gaussians.calculate(frame, folder, CORES),
    }


def result(name: str, frame: Frames, out: Path) -> dict[str, Array]:
    """Return energy per atom (eV), forces (eV/Å), stress (GPa) and seconds; kept ones if any."""
    stem = f"{name.replace(' ', '-')}-{frame.ids[0]}"
    kept = out / f"{stem}.json"
    if not kept.exists():
        answer = programs()[name](frame, out / stem)
        virial = np.nan if answer.virial is None else answer.virial
        numbers = {
            "energy": answer.energy / frame.n_atoms,
            "forces": answer.forces.tolist(),
            "stress": (-GPA * virial / frame.volumes[0]).tolist(),
            "seconds": answer.seconds,
        }
        kept.write_text(json.dumps(numbers))
    return {key: np.array(value) for key, value in json.loads(kept.read_text()).items()}


def published(frame: Frames) -> dict[str, Array]:
    """Return the published label in the same units."""
    assert frame.energies is not None and frame.forces is not None and frame.virials is not None
    return {
        "energy": frame.energies[0] / frame.n_atoms,
        "forces": frame.forces[0],
        "stress": -GPA * frame.virials[0] / frame.volumes[0],
        "seconds": np.array(np.nan),
    }


def rms(values: Array) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def compare(a: list[dict[str, Array]], b: list[dict[str, Array]]) -> dict[str, float]:
    """Return the differences between two sets of results."""
    energy, forces, stress = (
        np.array([one[key] - other[key] for one, other in zip(a, b, strict=True)])
        for key in ("energy", "forces", "stress")
    )
    x, y = (np.concatenate([one["forces"].ravel() for one in part]) for part in (a, b))
    return {
        "energy offset eV/atom": float(energy.mean()),
        "energy meV/atom": 1000 * rms(energy - energy.mean()),
        "force meV/Å": 1000 * rms(forces),
        "slope": float(x @ y / (y @ y)),
        "stress GPa": rms(stress),
        "pressure GPa": float(-np.trace(stress.mean(axis=0)) / 3),
    }


def main(out: Path) -> None:
    """Calculate missing results and print the comparison."""
    out.mkdir(parents=True, exist_ok=True)
    chosen = frames()
    results = {name: [result(name, frame, out) for frame in chosen] for name in programs()}
    results["published"] = [published(frame) for frame in chosen]
    print(
        f"force RMS {1000 * rms(np.array([r['forces'] for r in results['published']])):.0f} meV/Å"
    )
    for name, each in results.items():
        drift = rms(np.array([r["forces"].sum(axis=0) for r in each]))
        seconds = np.mean([r["seconds"] for r in each])
        print(f"{name:12} sum of the forces {1000 * drift:6.1f} meV/Å, {seconds:5.0f} s a frame")
    for one, other in combinations(results, 2):
        numbers = compare(results[one], results[other])
        words = ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
        print(f"{one} - {other}: {words}")


if __name__ == "__main__":
    needed = ("IONLOOP_TEST_GPAW", "IONLOOP_TEST_CP2K", "IONLOOP_TEST_DATA")
    if absent := [name for name in needed if name not in os.environ]:
        print(f"not run: set {', '.join(absent)}")
    else:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "gpaw_against_cp2k"))
