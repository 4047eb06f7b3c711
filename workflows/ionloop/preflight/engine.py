"""Look whether the engine can take a run."""

from __future__ import annotations

from ionloop.runfile.engine import engine_of
from ionloop.runfile.findings import Finding, error, ok
from ionloop.runfile.model import RunFile


def look_at_engine(run_file: RunFile) -> list[Finding]:
    """Say whether the engine can take the run."""
    if run_file.runner == "local":
        return []
    if run_file.store_file is not None:
        sentence = f"{run_file.store} is a file, which the nodes of a queue cannot share"
        return [error("store", sentence, "give a server: mongodb://host:port/database")]
    try:
        faults = engine_of(run_file).check(run_file.placement)
    except Exception as problem:  # noqa: BLE001 -- whatever an engine's configuration raises
        faults = [str(problem) or type(problem).__name__]
    found = [error("runner", fault) for fault in faults]
    return found or [ok("runner", f"{run_file.runner} takes the run")]
