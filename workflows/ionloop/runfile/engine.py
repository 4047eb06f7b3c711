"""The engine that a run file names."""

from __future__ import annotations

from ionloop.engines.base import Engine
from ionloop.engines.local.engine import LocalEngine
from ionloop.runfile.model import RunFile


def engine_of(run_file: RunFile) -> Engine:
    """Return the engine that a run file names.

    Raises
    ------
    MissingExtraError
        If its package is not installed.
    """
    if run_file.runner == "fireworks":
        from ionloop.engines.fireworks.engine import FireworksEngine

        return FireworksEngine(run_file.store, run_file.launchpad)
    if run_file.runner == "remote":
        from ionloop.engines.remote.engine import RemoteEngine

        return RemoteEngine(run_file.store, run_file.project)
    return LocalEngine(run_file.store, run_file.scratch_folder)
