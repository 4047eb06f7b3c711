"""Compare ways to train a small DeePMD-kit network on real DFT frames, at equal processor time.

Every training gets the same processor seconds (``--seconds``) beyond its start: how many steps
these are is found by timing a few steps first. It learns published frames of LGPS; the errors are
those of forces on frames of later iterations (400 atoms), of the same iterations and on its own
frames. Needs the published frames of Huang et al. 2021:

    export IONLOOP_TEST_DATA=FOLDER       # holds init, iteration-0 …
    python benchmarks/student.py --seconds 20 --only schedule

Without them it says so and ends. The PyTorch backend runs here without DeePMD-kit's compiled
library for it, which fits one version of PyTorch alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from student_ways import DEFAULT, FIRST, GOOD, GROUPS, Way

from ionloop.codes.common.prediction import force_errors
from ionloop.codes.deepmd import SUFFIXES, predict
from ionloop.codes.deepmd.data import Systems, write_systems
from ionloop.codes.deepmd.inputs import input_script
from ionloop.codes.deepmd.network import model_section
from ionloop.codes.deepmd.program import FLAGS
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.formats.reading import read_frames
from ionloop.programs.process import run_program
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.packed import Array
from ionloop.schemas.potential import ForceErrors, StoredFile

TYPES = ["Li", "Ge", "P", "S"]
EARLY = ["init", *(f"iteration-{n}" for n in range(4))]
LATE = ["iteration-6", "iteration-7"]
N_TEST = 40
"""Frames of each of the two tests."""
REFERENCES = {"schedule": FIRST, "shape": GOOD, "average": GOOD, "pytorch": GOOD}
"""What the ways of a group are compared with; the default of today, if not named."""
TIMED_STEPS = 400
"""Steps that tell the time of one; DeePMD-kit leaves out the first hundred, which cost more."""


@dataclass(frozen=True)
class Data:
    """Frames to learn and to test on; `folder` gets the systems and the trainings."""

    n_frames: int
    folder: Path

    @cached_property
    def _parts(self) -> tuple[list[Frames], list[Frames]]:
        random = np.random.default_rng(0)
        early = [_drawn(_published(name), random) for name in EARLY]
        # The groups take turns, so that any number of frames holds some of each.
        mixed = [part[n : n + 1] for n in range(len(early[0])) for part in early if n < len(part)]
        tests, training = mixed[:N_TEST], mixed[N_TEST : N_TEST + self.n_frames]
        return [_without_virials(each) for each in tests], training

    @cached_property
    def training(self) -> list[Frames]:
        """Frames to learn."""
        return concatenate(self._parts[1])

    @cached_property
    def tests(self) -> list[list[Frames]]:
        """Frames of later iterations, of the same ones, and of those that are learned."""
        random = np.random.default_rng(1)
        late = [_drawn(_published(name), random)[: N_TEST // len(LATE)] for name in LATE]
        own = [_without_virials(each) for each in self._parts[1][:N_TEST]]
        return [concatenate(late), concatenate(self._parts[0]), concatenate(own)]

    @cached_property
    def systems(self) -> Systems:
        """What DeePMD-kit reads."""
        names = write_systems(self.training, self.folder / "systems", TYPES)
        return Systems([str(self.folder / name) for name in names])


def _published(name: str) -> Frames:
    return read_frames(Path(os.environ["IONLOOP_TEST_DATA"]) / name, "deepmd/npy", TYPES)[0]


def _drawn(frames: Frames, random: np.random.Generator) -> Frames:
    return frames[random.permutation(len(frames))]


def _without_virials(frames: Frames) -> Frames:
    arrays: list[Array | None] = [frames.energies, frames.forces]
    return Frames(frames.symbols, frames.positions, frames.cells, *arrays)


@dataclass
class Bench:
    """Trains in every way for the same processor time.

    Parameters
    ----------
    data
        The frames.
    seconds
        Processor seconds of a training, without its start.
    seeds
        Seeds; a training for each.
    """

    data: Data
    seconds: float
    seeds: Sequence[int]
    costs: dict[str, float] = field(default_factory=dict)
    known: dict[str, tuple[int, Array]] = field(default_factory=dict)

    def errors(self, way: Way) -> tuple[int, Array]:
        """Return the steps that the time allows, and the mean force errors of the tests, meV/Å."""
        if way.name not in self.known:
            steps = round(self.seconds / self._cost(way))
            errors = [self._error(way, steps, seed) for seed in self.seeds]
            self.known[way.name] = steps, np.mean(errors, axis=0)
        return self.known[way.name]

    def _cost(self, way: Way) -> float:
        """Return the processor seconds of a step."""
        free = {"learning_rate_start", "learning_rate_stop"}
        free |= {"energy_prefactors", "force_prefactors", "virial_prefactors"}
        network = {key: value for key, value in way.settings.items() if key not in free}
        optimizer = way.script.get("optimizer", {}).get("type")
        key = json.dumps([network, optimizer], sort_keys=True)
        if key not in self.costs:
            begin = time.perf_counter()
            folder, seconds = self._train(way, TIMED_STEPS, 1)
            share = seconds / (time.perf_counter() - begin)
            told = re.search(r"average training time: (\S+) s/batch", _log(folder))
            assert told
            self.costs[key] = share * float(told[1])
        return self.costs[key]

    def _train(self, way: Way, steps: int, seed: int) -> tuple[Path, float]:
        """Train in a folder of its own; return it and the processor seconds."""
        folder = self.data.folder / "training"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        settings = DeepmdSettings(**way.settings, steps=steps)
        model = model_section(settings, self.data.training, TYPES)
        script = input_script(settings, model, self.data.systems, seed=seed)
        for part, changes in way.script.items():
            given = {} if part == "learning_rate" else script.get(part, {})
            script[part] = given | changes
        if way.average > 1:
            script["training"] |= {"save_freq": max(1, steps // 100), "max_ckpt_keep": way.average}
        (folder / "input.json").write_text(json.dumps(script))
        before = _processor_seconds()
        dp(settings, folder, "train", "--skip-neighbor-stat", "input.json")
        return folder, _processor_seconds() - before

    def _error(self, way: Way, steps: int, seed: int) -> list[float]:
        folder, _ = self._train(way, steps, seed)
        settings = DeepmdSettings(**way.settings)
        if way.average > 1:
            average_checkpoints(folder)
        frozen = folder / f"model{SUFFIXES[settings.backend]}"
        if settings.backend == "tensorflow":
            dp(settings, folder, "freeze", "-o", frozen.name)
        else:
            name = "model_ema.ckpt.pt" if way.script.get("training") else "model.ckpt.pt"
            dp(settings, folder, "freeze", "-c", name, "-o", frozen.name)
        model = StoredFile.read(frozen)
        tested = [test_errors(model, test, folder) for test in self.data.tests]
        return [errors.force_mev_per_angstrom for errors in tested]


def test_errors(model: StoredFile, frames: Sequence[Frames], folder: Path) -> ForceErrors:
    """Return the errors of a model on frames."""
    return force_errors([predict([model], part, folder) for part in frames], frames)


def dp(settings: DeepmdSettings, folder: Path, *arguments: str) -> None:
    """Run DeePMD-kit in a folder; end with its last lines if it fails."""
    log = folder / f"{arguments[0]}.log"
    command = [sys.executable, "-m", "deepmd", FLAGS[settings.backend], *arguments]
    if run_program(command, folder, log).status:
        raise RuntimeError(f"dp {' '.join(arguments)} failed:\n{log.read_text()[-800:]}")


def average_checkpoints(folder: Path) -> None:
    """Give the last checkpoint the mean weights of all that are there (TensorFlow)."""
    code = """
import numpy as np
from deepmd.tf.env import tf
state = tf.train.get_checkpoint_state(".")
readers = [tf.train.load_checkpoint(path) for path in state.all_model_checkpoint_paths]
with tf.Session() as session:
    saver = tf.train.import_meta_graph(state.model_checkpoint_path + ".meta", clear_devices=True)
    saver.restore(session, state.model_checkpoint_path)
    for variable in tf.global_variables():
        if variable.dtype.base_dtype.is_floating:
            values = [reader.get_tensor(variable.op.name) for reader in readers]
            variable.load(np.mean(values, axis=0), session)
    saver.save(session, "model.ckpt", global_step=10**9)
"""
    log = folder / "average.log"
    if run_program([sys.executable, "-c", code], folder, log).status:
        raise RuntimeError(log.read_text()[-800:])


def _log(folder: Path) -> str:
    return (folder / "train.log").read_text()


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def without_library(folder: Path) -> Path:
    """Return a folder for PYTHONPATH: DeePMD-kit by links, without its library for PyTorch."""
    found = importlib.util.find_spec("deepmd")
    assert found and found.origin
    package = Path(found.origin).parent
    for source, target in ((package, folder / "deepmd"), (package / "lib", folder / "deepmd/lib")):
        target.mkdir(parents=True)
        for entry in source.iterdir():
            if entry.name not in ("lib", "libdeepmd_op_pt.so", "__pycache__"):
                (target / entry.name).symlink_to(entry)
    return folder


def report(bench: Bench, groups: Sequence[str]) -> None:
    """Print a line for every way."""
    columns = "".join(f"{name:>8}" for name in ("steps", "later", "same", "own"))
    print(f"{'force errors on frames of iterations: its own':50}{columns}")
    for group in groups:
        reference = REFERENCES.get(group, DEFAULT)
        steps, first = bench.errors(reference)
        values = ", ".join(f"{error:.0f}" for error in first)
        print(f"{group}: divided by those of {reference.name}, {values} meV/Å, {steps} steps")
        for way in GROUPS[group]():
            try:
                steps, errors = bench.errors(way)
            except RuntimeError as problem:
                print(f"  {way.name:48} does not run: {str(problem).splitlines()[-1]}", flush=True)
                continue
            ratios = "".join(f"{ratio:8.2f}" for ratio in errors / first)
            print(f"  {way.name:48}{steps:8}{ratios}", flush=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="processor seconds a training")
    parser.add_argument("--frames", type=int, default=1700, help="frames to learn")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=["schedule"])
    options = parser.parse_args()
    if "IONLOOP_TEST_DATA" not in os.environ:
        print("student.py needs the published frames: set IONLOOP_TEST_DATA to their folder")
        return
    with tempfile.TemporaryDirectory() as name:
        path = str(without_library(Path(name) / "packages"))
        sys.path.insert(0, path)
        os.environ["PYTHONPATH"] = os.pathsep.join([path, os.environ.get("PYTHONPATH", "")])
        data = Data(options.frames, Path(name))
        report(Bench(data, options.seconds, options.seeds), options.only)


if __name__ == "__main__":
    main()
