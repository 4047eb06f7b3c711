"""The pre-flight check of where the jobs run: this machine, or an engine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from ionloop.preflight.findings import Finding, error, ok, sentence_of, warning
from ionloop.preflight.inputs import Inputs
from ionloop.runfile.engine import engine_of
from ionloop.runfile.model import RunFile

FREE_BYTES = 2_000_000_000
"""Free disk below which a run is warned: scratch and store of a small run."""


def look_at_machine(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look at scratch, free disk and cores.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    scratch = run_file.scratch_folder
    folder = next(place for place in (scratch, *scratch.parents) if place.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        yield error("scratch", f"{folder} is not a writable folder", "name another place")
    else:
        free = shutil.disk_usage(folder).free
        note = warning if free < FREE_BYTES else ok
        yield note("scratch", f"{free / 1e9:.1f} GB are free in {folder}")
    here = len(os.sched_getaffinity(0))
    if run_file.cores is not None and run_file.cores > here:
        sentence = f"{run_file.cores} cores are more than the {here} of this machine"
        yield warning("cores", sentence, "jobs will slow each other down: lower it")


def look_at_engine(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Ask the engine whether it can take the run.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    if run_file.runner == "local":
        return
    if run_file.store_file is not None:
        sentence = f"{run_file.store} is a file, which the nodes of a queue cannot share"
        yield error("store", sentence, "give a server: mongodb://host:port/database")
        return
    try:
        faults = engine_of(run_file).check(run_file.placement)
    except Exception as problem:  # noqa: BLE001 -- whatever an engine's configuration raises
        faults = [sentence_of(problem)]
    yield from (error("runner", fault) for fault in faults)
    if not faults:
        yield ok("runner", f"{run_file.runner} takes the run")
