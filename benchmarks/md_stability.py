"""Run 100 ps of molecular dynamics with a potential, and look for unphysical frames.

    ionloop export RUN models --out potential
    python benchmarks/md_stability.py STRUCTURE potential/potential-0.pb -T 800
    python benchmarks/md_stability.py STRUCTURE potential/potential-*.pth --kind sevennet -T 800

DeePMD potentials run in LAMMPS, all others with their ASE calculator. The first model drives; the
deviation of several is printed. The exit status is 1 if the run ended early, a frame is beyond the
physical limits of an exploration, or two atoms come nearer than ``--shortest``. Without arguments
it does nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ionloop.codes import ase, lammps
from ionloop.codes.ase.settings import AseSettings
from ionloop.codes.common.trajectory import Trajectory, TrajectoryTask
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.formats.reading import load_structures
from ionloop.geometry.neighbours import neighbours
from ionloop.geometry.periodic import supercell
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import DEEPMD, StoredFile
from ionloop.selection.physical import inspect


def run(
    task: TrajectoryTask, paths: Sequence[Path], kind: str, folder: Path, device: str = "cpu"
) -> Trajectory:
    """Run one trajectory, or continue what was interrupted in the folder.

    Parameters
    ----------
    task
        The trajectory.
    paths
        Model files; the first drives.
    kind
        Kind of the potentials.
    folder
        Working folder.
    device
        Device of torch.
    """
    # A deviation needs two models; of one, it is zero.
    models = [StoredFile.read(path) for path in (paths if len(paths) > 1 else [paths[0]] * 2)]
    if kind != DEEPMD:
        return ase.run_trajectories([task], models, AseSettings(device=device), folder, kind)[0]
    types = type_map(paths[0])
    return lammps.run_trajectories([task], models, types, LammpsSettings(), folder)[0]


def type_map(path: Path) -> list[str]:
    """Return the chemical symbols of a DeePMD model in the order of its types."""
    from deepmd.infer import DeepPot

    symbols: list[str] = DeepPot(str(path)).get_type_map()
    return symbols


def start_of(path: Path, cells: tuple[int, int, int]) -> Frames:
    """Return the first structure of a file, repeated along its lattice vectors."""
    first = load_structures([path])[0][0]
    return supercell(first, cells)


def shortest_distance(frames: Frames, reach: float = 3.0) -> float:
    """Return the shortest distance of two atoms in Å; `reach` if all are longer."""
    found = [pairs.distance.min(initial=reach) for pairs in neighbours(frames, reach)]
    return float(min(found, default=reach))


def report(done: Trajectory, shortest: float) -> bool:
    """Print what became of a trajectory; return whether it is sound.

    Parameters
    ----------
    done
        The trajectory.
    shortest
        Shortest distance of two atoms in Å that is allowed.
    """
    task, frames = done.task, done.frames
    judged = inspect(
        frames,
        start=task.start,
        temperatures=done.temperatures,
        target=task.temperature,
    )
    unphysical = judged.faults != ""
    distance = shortest_distance(frames)
    largest = np.max(done.max_devi_f, initial=0)
    deviation = f"; largest deviation {largest:.2f} eV/Å" if largest else ""  # of one model none
    picoseconds = done.steps[-1] * task.timestep / 1000 if len(frames) else 0.0
    print(
        f"{picoseconds:g} of {task.steps * task.timestep / 1000:g} ps of {task.start.formula} at "
        f"{task.temperature:g} K, {task.ensemble}: {len(frames)} frames, {unphysical.sum()} of "
        f"them unphysical {sorted(set(judged.faults[unphysical]))}; shortest distance "
        f"{distance:.2f} Å; mean temperature {np.mean(done.temperatures):.0f} K{deviation}; "
        f"{done.steps[-1] / max(done.seconds, 1e-9):.1f} steps/s {done.stop_reason}"
    )
    return bool(done.finished and not unphysical.any() and distance >= shortest)


def main() -> None:
    """Run the trajectory, and say how it went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("structure", type=Path)
    add("models", type=Path, nargs="+")
    add("--kind", default=DEEPMD, help="kind of the potentials, such as sevennet")
    add("-T", "--temperature", type=float, required=True, help="K")
    add("--ps", type=float, default=100.0)
    add("--timestep", type=float, default=2.0, help="fs")
    add("--ensemble", default="nvt", choices=["nvt", "npt-iso", "npt-aniso", "npt-tri"])
    add("--cells", type=int, nargs=3, default=(1, 1, 1), help="repetitions of the structure")
    add("--shortest", type=float, default=1.0, help="shortest distance allowed, Å")
    add("--device", default="cpu")
    add("--work", type=Path, default=Path("md"), help="working folder; continued if it is there")
    if len(sys.argv) == 1:
        parser.print_usage()
        return
    given = parser.parse_args()
    task = TrajectoryTask(
        index=0,
        start=start_of(given.structure, tuple(given.cells)),
        temperature=given.temperature,
        pressure=1.0,
        seed=1,
        ensemble=given.ensemble,
        steps=round(1000 * given.ps / given.timestep),
        timestep=given.timestep,
        dump_every=50,
    )
    done = run(task, given.models, given.kind, given.work, given.device)
    sys.exit(0 if report(done, given.shortest) else 1)


if __name__ == "__main__":
    main()
