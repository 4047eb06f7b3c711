"""DP-GEN's recipe beside fine-tuning and distillation: error against labels and core hours.

Two runs of the loop have the same start structures, initial frames, oracle, explorer,
stages, picks per turn and test frames:

- DP-GEN's recipe: DeePMD from scratch in every turn, a fixed trust window, random picks;
- the new one: SevenNet (7net-0) fine-tuned in every turn, and at the end a DeePMD student of it.

The oracle is CHGNet on LGPS, from whose family none of the models comes, or GPAW on the smaller
Li3InCl6 (``--oracle gpaw``, with the command in ``IONLOOP_TEST_GPAW``). The test frames are visited
by molecular dynamics with CHGNet at other temperatures than those explored, and labelled by the
oracle; no run sees them.

    python benchmarks/dpgen.py                        # small: minutes
    python benchmarks/dpgen.py --full --seeds 3       # hours
    python benchmarks/dpgen.py --full --oracle gpaw   # hours, of DFT on 20 atoms
    python benchmarks/dpgen.py --show                 # table of the runs that have ended
    python benchmarks/dpgen.py --page                 # docs/results/dpgen.md from the full runs

The stores are kept in ``--work``: runs that were interrupted continue. What has ended is a line of
the file of results (``--results``), and is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from dpgen_page import (
    RECIPES,
    TEMPERATURES,
    TEST_TEMPERATURES,
    TRUST,
    Order,
    Record,
    add_record,
    read_records,
    table,
    write_page,
)
from label_data import Score, score
from networks import SINGLE, SMALL

from ionloop.api import RunFile, load_structures, start
from ionloop.codes import potentials
from ionloop.codes.common.ase import dynamics
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.export.models import export_models
from ionloop.geometry.perturb import perturb
from ionloop.monitor.records import outputs, summary
from ionloop.monitor.turns import iterations
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import StoredFile
from ionloop.stores.connect import collection, open_store

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/results"
CRYSTALS = {
    "chgnet": ROOT / "examples/lgps/LGPS.vasp",
    "gpaw": ROOT / "examples/li3incl6/Li3InCl6.vasp",
}
"""What an oracle labels: DFT a small cell."""
SKIP, EVERY = 500, 200
"""Their molecular dynamics: steps of 2 fs before the first and between them."""

HELD_BACK = 0.1
"""Fraction of the labels that is held back from every training."""

QUICK: dict[str, Any] = {
    "turns": 2,
    "initial": 10,
    "per_turn": 10,
    "n_test": 4,
    "md_steps": 300,
    "network": SMALL,
    "steps": 1500,
    "tuned": {"n_models": 2, "steps": 20},
    "teacher": {"n_own": 40, "n_frames": 40, "max_rounds": 1},
    "production": {"steps": 3000},
    "student": {"steps": 2000, "warm_steps": 1000},
}
FULL: dict[str, Any] = {
    "turns": 2,
    "initial": 20,
    "per_turn": 30,
    "n_test": 20,
    "md_steps": 500,
    "network": SMALL | SINGLE,
    "steps": 8000,
    "tuned": {"n_models": 2},
    "teacher": {"n_own": 60, "n_frames": 200, "max_rounds": 2},
    "production": {"steps": 40_000},
    "student": {"steps": 20_000, "warm_steps": 20_000},
}
FULL_SIZES: dict[str, dict[str, Any]] = {
    "chgnet": FULL,
    "gpaw": FULL
    | {
        "initial": 15,
        "per_turn": 15,
        "n_test": 5,
        "production": {"steps": 20_000},
        "student": {"steps": 10_000, "warm_steps": 10_000},
    },
}
"""Sizes for the page of results, by the oracle; `n_test` counts test frames per temperature."""


def size_of(order: Order) -> dict[str, Any]:
    """Return how large the run is."""
    return QUICK if order.quick else FULL_SIZES[order.oracle]


def run_file(order: Order, work: Path) -> RunFile:
    """Return the run file of a run.

    Parameters
    ----------
    order
        The run; equal seeds have equal initial frames.
    work
        Folder of the store.
    """
    size = size_of(order)
    shared = {
        "name": run_name(order),
        "structures": [CRYSTALS[order.oracle]],
        "store": str(work / "dpgen.db"),
        "seed": order.seed,
        "initial": {"n_perturbed": size["initial"], "displacement": 0.2, "strain": 0.03},
        "label": label_section(order.oracle),
        "explore": {"code": "ase"},
        "select": {"max_labels": size["per_turn"], "strategy": "random"},
        "stages": [
            {
                "temperatures": TEMPERATURES,
                "steps": size["md_steps"],
                "max_turns": size["turns"],
            }
        ],
        # Every turn buys its labels.
        "convergence": {"accurate_fraction": 1.0, "turns": size["turns"] + 1},
    }
    return RunFile.model_validate(shared | parts(order))


def parts(order: Order) -> dict[str, Any]:
    """Return the sections in which the recipes differ."""
    size = size_of(order)
    network, trust = size["network"], TRUST[order.recipe]
    if order.recipe == "dpgen":
        return {
            "train": {
                "code": "deepmd",
                "n_models": 4,
                "steps": size["steps"],
                "validation_fraction": HELD_BACK,
                **network,
            },
            "trust": trust,
            "production": {**size["production"], "warm_start": False},
        }
    return {
        "train": {
            "code": "sevennet",
            "base": "7net-0",
            "validation_fraction": HELD_BACK,
            **size["tuned"],
        },
        "trust": trust,
        "production": {
            "code": "deepmd",
            **network,
            **size["student"],
            "warm_start": True,
            "teacher": {**size["teacher"], "explore": {"code": "lammps"}},
        },
    }


def label_section(oracle: str) -> dict[str, Any]:
    """Return the section `label` of an oracle."""
    if oracle == "gpaw":
        command = os.environ["IONLOOP_TEST_GPAW"]
        return {"code": "gpaw", "command": command, "cutoff": 400, "kpoints": [2, 1, 2]}
    return {"code": "forcefield", "model": "chgnet"}


def run_name(order: Order) -> str:
    """Return the name of a run."""
    size = "-quick" if order.quick else ""
    return f"{order.recipe}-{order.oracle}-{order.seed}{size}"


def test_frames(oracle: Any, order: Order, work: Path) -> Frames:
    """Return the test frames with the oracle's labels; those that are there already, if any.

    Parameters
    ----------
    oracle
        The labeller.
    order, work
        As for `run_file`.
    """
    n, crystal = size_of(order)["n_test"], CRYSTALS[order.oracle]

    def make() -> Frames:
        visited = kept(work / f"visited-{crystal.stem}-{n}.json", lambda: visit(crystal, n, work))
        return labelled(visited, oracle, work)

    return kept(work / f"test-{order.oracle}-{n}.json", make)


def kept(path: Path, make: Callable[[], Frames]) -> Frames:
    """Return the frames that a file holds; if it is absent, they are made first."""
    if not path.exists():
        write(path, make().pack())
    return Frames.unpack(json.loads(path.read_text()))


def labelled(frames: Frames, oracle: Any, work: Path) -> Frames:
    """Return frames with the oracle's energies and forces."""
    labels = [oracle.calculate(frame, work / f"test-{i}") for i, frame in enumerate(frames)]
    energies, forces = ([getattr(each, key) for each in labels] for key in ("energy", "forces"))
    return replace(frames, energies=np.array(energies), forces=np.array(forces))


def visit(crystal: Path, n: int, work: Path) -> Frames:
    """Return n frames per temperature of molecular dynamics of a crystal with CHGNet."""
    calculator = ForceFieldSettings(model="chgnet").ase_calculator(work)
    (start,) = load_structures([crystal])
    begin = perturb(start, 1, displacement=0.1, strain=0.0, seed=99)
    length = {"steps": SKIP + n * EVERY, "skip": SKIP, "every": EVERY}
    runs = [MolecularDynamics(temperature=each, **length) for each in TEST_TEMPERATURES]
    steps = [step for run in runs for step in dynamics(calculator, begin, run)]
    positions, cells = ([getattr(step, name) for step in steps] for name in ("positions", "cell"))
    return Frames(begin.symbols, np.array(positions), np.array(cells))


def write(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content))
    part.replace(path)


def judged(run_file: RunFile, frames: Frames) -> list[dict[str, Any]]:
    """Return errors, labels and core hours of every turn of a run and of its potential.

    Parameters
    ----------
    run_file
        The run, which has ended.
    frames
        The test frames.
    """
    with closing(open_store(run_file.store, read_only=True)) as store:
        run, end = run_file.name, summary(store, run_file.name)
        assert end is not None
        level = run_file.label.maker().level
        rows, bill = [], Bill(store, run, level.code, price_of_a_label(store, level.hash))
        for number, turn in enumerate(iterations(store, run)):
            learned = turn.n_training_frames - turn.n_accepted
            spent = bill.core_hours(turn.progress.core_hours, turn.n_training_frames, number)
            rows.append(row(f"turn {number}", learned, spent, error_of(store, run, number, frames)))
        spent = bill.core_hours(end.core_hours, end.n_accepted, len(rows) - 1)
        error = error_of(store, run, None, frames)
        rows.append(row("potential", end.n_accepted, spent, error))
    return rows


@dataclass(frozen=True)
class Bill:
    """What a run costs if every label that it learned from has the same price.

    The runs share a store. What the first one bought, such as the initial labels, costs the second
    one nothing, which would be unfair to the first.

    Parameters
    ----------
    store, run
        Where the run is.
    code
        Code of the labels' level of theory; labels of a teacher have another.
    price
        Core seconds of a label.
    """

    store: Any
    run: str
    code: str
    price: float

    def core_hours(self, counted: float, n_labels: int, last: int) -> float:
        """Return the core hours until the end of a turn.

        Parameters
        ----------
        counted
            Core hours as the run counts them.
        n_labels
            Labels that the run has by then.
        last
            Number of the turn.
        """
        paid = sum(self.paid(turn) for turn in (None, *range(last + 1)))
        return counted + (n_labels * self.price - paid) / 3600

    def paid(self, turn: int | None) -> float:
        """Return the core seconds of the labels that the run bought in a turn; None: before it."""
        criteria = {"metadata.iteration": turn, "output.level.code": self.code}
        key = "output.core_seconds"
        found = outputs(self.store, self.run, "Labels", [key], criteria)
        return sum(labels["core_seconds"] for labels in found)


def price_of_a_label(store: Any, level: str) -> float:
    """Return the median core seconds of the labels of a level of theory."""
    known = collection(store, "labels").query(
        {"level": level, "status": "accepted"}, ["seconds", "cores"]
    )
    return float(np.median([label["seconds"] * label["cores"] for label in known]))


def row(what: str, labels: int, core_hours: float, error: Score) -> dict[str, Any]:
    """Return one line of the table.

    Parameters
    ----------
    what
        The turn, or the potential.
    labels
        Labels that were trained on.
    core_hours
        Spent at the end of the turn; for the potential, by the whole run.
    error
        Errors on the test frames.
    """
    return {"what": what, "labels": labels, "core_hours": core_hours, "error": asdict(error)}


def error_of(store: Any, run: str, turn: int | None, frames: Frames) -> Score:
    """Return the error of the mean of a turn's ensemble, or of the potential, on test frames.

    Parameters
    ----------
    store, run
        Where it is.
    turn
        Number of the turn; None: the potential.
    frames
        Labelled frames.
    """
    kind = outputs(store, run, "EnsembleDoc", criteria={"metadata.iteration": turn})[-1]["kind"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        *paths, _ = export_models(store, run, folder / "models", iteration=turn)
        models = [StoredFile.read(path) for path in paths]
        return score([frames], lambda part: potentials.predict(kind, models, part, folder))


def orders(options: argparse.Namespace) -> Iterator[tuple[Order, RunFile]]:
    """Yield every run that is asked for, and its run file."""
    for seed in range(1, options.seeds + 1):
        for recipe in options.recipes:
            order = Order(recipe, options.oracle, seed, options.quick)
            yield order, run_file(order, options.work)


def perform(order: Order, file: RunFile, work: Path) -> Record:
    """Run a recipe, or continue it, and judge what it learned."""
    print(f"{RECIPES[order.recipe]}, seed {order.seed} …", flush=True)
    ended = start(file, or_resume=True)
    if not ended.ok:
        sys.exit(f"{file.name} did not come to its end: ionloop status --store {file.store}")
    frames = test_frames(file.label, order, work)
    return Record(order, judged(file, frames))


def read_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--full", action="store_true", help="sizes for a page of results: hours")
    add("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    add("--oracle", choices=["chgnet", "gpaw"], default="chgnet")
    add("--seeds", type=int, default=1, help="runs of each recipe")
    add("--work", type=Path, default=ROOT / "scratch/dpgen", help="folder of stores and results")
    add("--results", type=Path, help="file of results")
    add("--show", action="store_true", help="run nothing, print the table of what has ended")
    add("--page", action="store_true", help="run nothing, write docs/results/dpgen.md")
    options = parser.parse_args()
    options.quick = not (options.full or options.page)
    kept = options.work / "results.jsonl" if options.quick else PAGE / "dpgen.jsonl"
    options.results = options.results or kept
    return options


def main() -> None:
    """Run what is missing, and print the table."""
    options = read_options()
    if options.page:
        print("written:", write_page(read_records(options.results), FULL_SIZES, PAGE))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    known = {record.order for record in read_records(options.results)}
    for order, file in [] if options.show else orders(options):
        if order not in known:
            add_record(options.results, perform(order, file, options.work))
    records = read_records(options.results)
    print(table([record for record in records if record.order.oracle == options.oracle]))
    print("Energies after one constant per atom was taken off.")


if __name__ == "__main__":
    main()
