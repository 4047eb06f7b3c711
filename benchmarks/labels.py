"""Errors against the number of DFT labels, for several ways to learn from them.

Published DFT frames of LGPS (Huang et al. 2021) are replayed: of the initial frames and iterations
0 to 3, as many are picked at random as labels may be asked for, and the potentials are judged by
frames of iterations 4 to 7, which are hotter, larger (400 atoms) and never trained on.

    python benchmarks/labels.py                     # quick: small networks, one seed, minutes
    python benchmarks/labels.py --full --processes 8    # trained until more no longer helps: days
    python benchmarks/labels.py --full --show       # table of what is there, nothing is run
    python benchmarks/labels.py --full --page       # writes docs/results/labels.md and its figure

Every result is a line of a file (``--results``); what is there is not run again, and a training
that was interrupted continues. The frames are looked for in ``--data``, in the folder that
``IONLOOP_TEST_DATA`` names, or in ``../shared/data/lgps_dpgen``.

With ``--full``, a training is repeated with more steps until they lower the force error by less
than 3 %. This is judged by other frames of iterations 4 to 7 than those of the test.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from label_data import find_data, later_frames, pick, read_pool, score
from label_methods import METHODS, Order
from label_results import Record, Results, helps, ratios, table, unfinished

from ionloop.codes import potentials
from ionloop.schemas.errors import InputError, IonloopError

ROOT = Path(__file__).parents[1]
LABELS: dict[bool, list[int | None]] = {
    False: [10, 20, 50, 100, 200, 400, None],
    True: [10, 50],
}
EXPENSIVE = ["distilled-l3i5", "distilled-wide", "scratch-wide"]
"""Methods that run only if they are named."""
DEFAULT = [name for name in METHODS if name not in EXPENSIVE]
EXTRA: dict[str, list[int | None]] = {"scratch": [500]}
"""Numbers of labels of the results page that only one method is asked for."""

N_TEST, N_TUNING = {True: 2, False: 8}, {True: 1, False: 2}
"""Test frames and tuning frames of each later iteration; for the quick table and the full one."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "DP_INTRA_OP_PARALLELISM_THREADS": "1",
    "DP_INTER_OP_PARALLELISM_THREADS": "1",
}


def perform(order: Order, data: Path, folder: Path) -> Record:
    """Train as ordered, and judge the potential.

    Parameters
    ----------
    order
        The training.
    data
        The published frames.
    folder
        Where the training goes; one that was interrupted continues there.
    """
    frames = pick(read_pool(data), order.n, order.seed)
    fitted = METHODS[order.method].fit(order, frames, folder / "fit")
    test, tuning = later_frames(data, N_TEST[order.quick], N_TUNING[order.quick])

    def predict(part: Any) -> Any:
        return potentials.predict(fitted.kind, fitted.models, part, folder)

    return Record(
        **asdict(replace(order, n=sum(map(len, frames)))),
        all_labels=order.n is None,
        test=score(test, predict),
        tuning=score(tuning, predict),
        core_seconds=fitted.core_seconds,
        settings=fitted.settings,
        notes=fitted.notes,
    )


def perform_alone(order: Order, data: Path, work: Path) -> Record:
    """Train in a process of its own, which ends with this one.

    Parameters
    ----------
    order, data
        As in `perform`.
    work
        Folder of all trainings.

    Raises
    ------
    IonloopError
        If it fails.
    """
    name = "-".join(map(str, [order.method, order.n or "all", order.seed, order.steps]))
    folder = work / (f"quick-{name}" if order.quick else name)
    folder.mkdir(parents=True, exist_ok=True)
    program = [sys.executable, str(Path(__file__).absolute()), "--data", str(data.absolute())]
    command = [
        *[sys.executable, "-m", "ionloop.programs.die_with_parent", *program],
        *["--perform", json.dumps(asdict(order))],
    ]
    with (folder / "log").open("ab") as log:
        status = subprocess.run(
            command, cwd=folder, stdout=log, stderr=log, env=os.environ | ONE_THREAD, check=False
        ).returncode
    if status:
        last = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
        raise IonloopError(f"{name} failed; see {folder / 'log'}: {' '.join(last)}")
    record = Record.of(json.loads((folder / "record.json").read_text()))
    shutil.rmtree(folder)
    return record


def performed(text: str, data: Path) -> None:
    """Train and judge in the current folder, and leave the record there.

    Parameters
    ----------
    text
        The order, as JSON.
    data
        The published frames.
    """
    # Ended by a signal, it ends the programs that it runs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    record = perform(Order(**json.loads(text)), data, Path.cwd())
    unfinished_file = Path("record.json.part")
    unfinished_file.write_text(json.dumps(asdict(record)))
    unfinished_file.replace("record.json")


def chain(
    first: Order, lengths: Sequence[int], results: Results, data: Path, work: Path
) -> str | None:
    """Train with more and more steps while it helps; return what failed.

    Parameters
    ----------
    first
        Method, labels and seed.
    lengths
        Steps to try.
    results
        Where records are added.
    data, work
        Folders of the published frames and of the trainings.
    """
    last = None
    for steps in lengths:
        order = replace(first, steps=steps)
        try:
            record = results.records.get(order) or perform_alone(order, data, work)
        except IonloopError as error:
            return str(error)
        if order not in results.records:
            results.add(record)
            say(record)
        if last and not helps(last, record):
            return None
        last = record
    return None


def say(record: Record) -> None:
    """Print a result as soon as it is there."""
    print(
        f"{time.strftime('%H:%M:%S')} {METHODS[record.method].title}, {record.n:,} labels, seed "
        f"{record.seed}, {record.steps:,} steps: forces {record.test.force:.0f} meV/Å, energies "
        f"{record.test.energy_shifted:.2f} meV/atom, {record.core_seconds:,.0f} core seconds",
        flush=True,
    )


def orders(options: argparse.Namespace) -> Iterator[Order]:
    """Yield what is to be trained, seed by seed, without its steps."""
    for seed in range(options.seeds):
        for method in options.methods:
            extra = [] if options.quick or options.labels else EXTRA.get(method, [])
            for n in dict.fromkeys([*(options.labels or LABELS[options.quick]), *extra]):
                yield Order(method, n, seed, 0, options.quick)


def estimate(plan: Sequence[tuple[Order, list[int]]], results: Results, processes: int) -> str:
    """Say how long everything may take at most.

    Parameters
    ----------
    plan
        Orders and the steps to try.
    results
        What is there, which is not counted.
    processes
        Trainings at a time.
    """
    missing = [
        METHODS[order.method].seconds_per_step * steps
        for order, lengths in plan
        for steps in lengths
        if replace(order, steps=steps) not in results.records
    ]
    hours = sum(missing) / 3600
    return (
        f"{len(missing)} trainings at most, roughly {hours:.1f} core hours, "
        f"{hours / processes:.1f} hours with {processes} processes"
    )


def run(options: argparse.Namespace, results: Results) -> list[str]:
    """Run what is missing; return what failed, in words."""
    data = find_data(options.data)
    total = sum(map(len, read_pool(data)))
    plan = [
        (order, METHODS[order.method].lengths(order.n or total, order.quick))
        for order in orders(options)
    ]
    if options.ladder:
        plan = [(order, options.ladder) for order, _ in plan]
    print(estimate(plan, results, options.processes), flush=True)
    with ThreadPoolExecutor(options.processes) as pool:
        waiting = [
            pool.submit(chain, order, lengths, results, data, options.work)
            for order, lengths in plan
        ]
        failed = []
        for number, future in enumerate(waiting, start=1):
            if problem := future.result():
                failed.append(problem)
                print(problem, flush=True)
            print(f"{number} of {len(waiting)} are done", flush=True)
    return failed


def read_options() -> argparse.Namespace:
    """Return the options of the command line, with their defaults."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small networks, few labels, one seed (default)")
    add("--full", action="store_true", help="trained until more steps no longer help")
    add("--methods", nargs="+", choices=list(METHODS), default=DEFAULT)
    add("--labels", nargs="+", type=number_of_labels, help="such as 10 50 all")
    add("--seeds", type=int, help="how many; 1 for the quick table, 3 for the full one")
    add("--ladder", nargs="+", type=int, help="steps to try, for all methods named")
    add("--processes", type=int, default=1, help="trainings at a time, one core each")
    add("--data", type=Path, help="folder of the published frames")
    add("--results", type=Path, help="file of results")
    add("--work", type=Path, default=ROOT / "scratch/labels", help="folder of the trainings")
    add("--show", action="store_true", help="run nothing, print the table of what is there")
    add("--page", action="store_true", help="run nothing, write docs/results/labels.md")
    add("--perform", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick and options.full:
        parser.error("--quick and --full exclude each other")
    options.quick = not options.full
    options.seeds = options.seeds or (1 if options.quick else 3)
    place = ROOT / ("scratch/labels-quick.jsonl" if options.quick else "docs/results/labels.jsonl")
    options.results = options.results or place
    return options


def number_of_labels(word: str) -> int | None:
    """Read a number of labels; None for all."""
    return None if word == "all" else int(word)


def main() -> None:
    """Run what the options ask for."""
    options = read_options()
    if options.perform:
        performed(options.perform, options.data)
        return
    results = Results(options.results)
    failed = [] if options.show or options.page else run(options, results)
    records = list(results.records.values())
    print(table(records), *ratios(records), sep="\n")
    for training in unfinished(records):
        print(f"more steps might still help: {training}")
    if options.page:
        from label_page import write_page

        print("written:", write_page(records, ROOT / "docs/results"))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"labels.py: {error}")
