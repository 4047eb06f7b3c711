"""Time training and MD with four models of LGPS on a GPU and on one CPU core.

Prints steps per second as the programs themselves report them, without their start-up: one
training on the CPU and on the GPU, four trainings that share the GPU (with CUDA MPS if it is
installed), and MD with the deviation of four models on the CPU and on the GPU.
Run as ``OMP_NUM_THREADS=1 python benchmarks/gpu/lgps.py FRAMES --out benchmarks/gpu/NAME.json``,
where FRAMES is a folder of labelled frames (DeePMD-kit's npy format), in an environment with the
GPU extra of the backend. Without a GPU, ``--devices cpu`` runs only the CPU part.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

from ionloop.codes.common.training import Training
from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.codes.deepmd.program import check_backend
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.codes.deepmd.training import train
from ionloop.codes.lammps.process import run_trajectories
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.formats.reading import load_structures
from ionloop.geometry.periodic import supercell
from ionloop.jobs.label.imports import read_labelled
from ionloop.programs.concurrent import run_concurrently
from ionloop.programs.environment import environment
from ionloop.schemas.frames import Frames

HERE = Path(__file__).parent
LGPS = HERE.parents[1] / "examples" / "lgps" / "LGPS.vasp"
DEVICES: dict[str, dict[str, str]] = {"cpu": {"CUDA_VISIBLE_DEVICES": ""}, "gpu": {}}
N_MODELS = 4
TOGETHER = {"cpu": (1,), "gpu": (1, N_MODELS)}
"""Numbers of trainings that share a device."""
PER_BATCH = re.compile(r"average training time: ([\d.eE+-]+) s/batch")
LOOP_TIME = re.compile(r"Loop time of ([\d.eE+-]+) on .* for (\d+) steps")


def main() -> None:
    """Measure what the options select; print and write the results."""
    options = _options()
    frames = read_labelled(options.frames, "deepmd/npy", options.type_map)
    check_backend(options.backend)
    settings = DeepmdSettings(backend=options.backend, steps=options.steps)
    with tempfile.TemporaryDirectory() as folder:
        rates = _measure(settings, frames, options, Path(folder))
    _print(rates)
    document = {"machine": _machine(), "options": vars(options), "steps_per_second": rates}
    if options.out:
        options.out.write_text(json.dumps(document, indent=2, default=str) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--backend", choices=("pytorch", "tensorflow"), default="pytorch")
    parser.add_argument("--devices", nargs="+", choices=DEVICES, default=list(DEVICES))
    parser.add_argument("--type-map", nargs="+", default=["Li", "Ge", "P", "S"])
    parser.add_argument("--steps", type=int, default=1000, help="of each training")
    parser.add_argument("--md-steps", type=int, default=500)
    parser.add_argument("--supercell", type=int, nargs=3, default=(2, 2, 1), help="of the 50 atoms")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _measure(
    settings: DeepmdSettings, frames: Sequence[Frames], options: argparse.Namespace, folder: Path
) -> dict[str, float]:
    models: list[Training] = []
    rates = {}
    for device in options.devices:
        with environment(DEVICES[device]):
            for n in TOGETHER[device]:
                here = folder / f"{device}-{n}"
                models = _trainings(settings, frames, options.type_map, n, here)
                rates[f"{n} training{'s' * (n > 1)}, {device}"] = _training_rate(here)
    for device in options.devices:
        with environment(DEVICES[device]):
            here = folder / f"{device}-md"
            _explore(_ensemble(models), options, here)
            rates[f"MD with {N_MODELS} models, {device}"] = _md_rate(here)
    return rates


def _trainings(
    settings: DeepmdSettings, frames: Sequence[Frames], type_map: list[str], n: int, folder: Path
) -> list[Training]:
    folder.mkdir()
    calls: list[Callable[[], Training]] = [
        partial(
            train,
            settings,
            frames,
            type_map=type_map,
            seed=seed,
            folder=folder / f"model-{seed}",
        )
        for seed in range(n)
    ]
    found = run_concurrently(calls, folder)
    for outcome in found:
        if isinstance(outcome, BaseException):
            raise outcome
    return [each for each in found if isinstance(each, Training)]


def _ensemble(trained: Sequence[Training]) -> list[Training]:
    """Return as many models as an ensemble has; a repeated model takes as long as another one."""
    return [trained[k % len(trained)] for k in range(N_MODELS)]


def _explore(ensemble: Sequence[Training], options: argparse.Namespace, folder: Path) -> None:
    (start,) = load_structures([LGPS])
    task = TrajectoryTask(
        index=0,
        start=supercell(start, tuple(options.supercell)),
        temperature=300.0,
        pressure=0.0,
        seed=1,
        ensemble="nvt",
        steps=options.md_steps,
        timestep=1.0,
        dump_every=10,
    )
    # After so few training steps the models are poor; the trajectory must not stop because of that.
    settings = LammpsSettings(stop_max_devi_f=1e6, stop_temperature_factor=1e6, stop_distance=1e-3)
    models = [each.model for each in ensemble]
    run_trajectories([task], models, options.type_map, settings, folder)


def _training_rate(folder: Path) -> float:
    """Return the steps per second of all trainings in a folder together."""
    logs = [path.read_text() for path in folder.glob("model-*/train.log")]
    return sum(1 / float(PER_BATCH.findall(log)[-1]) for log in logs)


def _md_rate(folder: Path) -> float:
    """Return the steps per second of the longest part of a trajectory."""
    found = [pair for path in folder.glob("*.log") for pair in LOOP_TIME.findall(path.read_text())]
    seconds, steps = max(found, key=lambda pair: int(pair[1]))
    return int(steps) / float(seconds)


def _print(rates: dict[str, float]) -> None:
    for name, rate in rates.items():
        twin = rates.get(f"{name.removesuffix('gpu')}cpu") if name.endswith("gpu") else None
        beside = f"{rate / twin:8.1f} times the CPU's" if twin else ""
        print(f"{name:28}{rate:10.1f} steps/s{beside}")


def _machine() -> dict[str, str]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        gpu = "none"
    programs = {name: version(name) for name in ("deepmd-kit", "lammps", "torch")}
    return {"cpu": platform.processor() or platform.machine(), "gpu": gpu, **programs}


if __name__ == "__main__":
    main()
