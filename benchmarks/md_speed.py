"""Steps of molecular dynamics per second on one core: a DeePMD student beside its teacher.

    OMP_NUM_THREADS=1 python benchmarks/md_speed.py

The student has the wide network of ``networks.py`` and runs in LAMMPS; the teacher is
SevenNet (7net-0, which is as fast when it is fine-tuned) in the ASE explorer. Both run 50 atoms of
LGPS at 300 K, alternately. The time of the start is taken off by runs of two lengths. The student
is trained for a minute only, on frames that the teacher labels: its speed does not depend on that.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from label_data import TYPE_MAP
from md_stability import run, start_of
from networks import WIDE

from ionloop.codes import deepmd
from ionloop.codes.common.ase import calculate
from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.codes.sevennet.settings import SevennetSettings
from ionloop.geometry.perturb import perturb
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import DEEPMD

LGPS = Path(__file__).parents[1] / "examples/lgps/LGPS.vasp"
TARGET = 30.0
"""How many times as fast as its teacher a student is to be."""
LENGTHS = {DEEPMD: (200, 2200), "sevennet": (5, 65)}
"""Steps of the short run and the long one."""
REPEATS = 3


def labelled(n: int) -> Frames:
    """Return perturbed frames of LGPS with the teacher's labels."""
    frames = perturb(start_of(LGPS, (1, 1, 1)), n, displacement=0.2, strain=0.02, seed=1)
    teacher = ForceFieldSettings(model="7net-0").ase_calculator(Path.cwd())
    found = [calculate(teacher, frame) for frame in frames]
    return replace(
        frames,
        energies=np.array([each.energy for each in found]),
        forces=np.array([each.forces for each in found]),
        virials=np.array([each.virial for each in found]),
    )


def students(folder: Path) -> dict[str, Path]:
    """Train a student; return its model file, as it is and compressed."""
    frames, paths = [labelled(30)], {}
    for name, compress in (("student", False), ("student, compressed", True)):
        settings = DeepmdSettings(**WIDE, steps=1500, compress=compress)
        trained = deepmd.train(settings, frames, type_map=TYPE_MAP, seed=1, folder=folder / name)
        paths[name] = trained.model.write(folder, f"{name}.pb".replace(", ", "-"))
    return paths


def rate(path: Path, kind: str, folder: Path) -> float:
    """Return the steps per second of one model.

    Parameters
    ----------
    path
        Model file.
    kind
        Kind of the potential.
    folder
        Where runs go.
    """
    seconds = []
    for steps in LENGTHS[kind]:
        task = TrajectoryTask(
            index=0,
            start=start_of(LGPS, (1, 1, 1)),
            temperature=300.0,
            pressure=1.0,
            seed=1,
            ensemble="nvt",
            steps=steps,
            timestep=2.0,
            dump_every=steps,
        )
        begin = time.perf_counter()
        done = run(task, [path], kind, Path(tempfile.mkdtemp(dir=folder)))
        seconds.append(time.perf_counter() - begin)
        assert done.finished, done.stop_reason
    return (LENGTHS[kind][1] - LENGTHS[kind][0]) / (seconds[1] - seconds[0])


def main() -> None:
    """Measure everything, in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        teacher = SevennetSettings().bundled()["7net-0"]
        models = students(folder)
        rounds = [
            {"teacher": rate(teacher, "sevennet", folder)}
            | {name: rate(path, DEEPMD, folder) for name, path in models.items()}
            for _ in range(REPEATS)
        ]
    for name in models:
        ratio = statistics.median(each[name] / each["teacher"] for each in rounds)
        own, others = (statistics.median(each[k] for each in rounds) for k in (name, "teacher"))
        print(
            f"{name} {own:.0f} steps/s, teacher {others:.1f} steps/s: {ratio:.0f} times as fast, "
            f"{ratio / TARGET:.2f} of the target of {TARGET:g} times"
        )


if __name__ == "__main__":
    main()
