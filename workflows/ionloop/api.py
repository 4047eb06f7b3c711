"""The public face of ionloop: the names that users need, in one place (see docs/api.md).

Nothing heavy is imported before it is used, so that ``from ionloop.api import load`` is quick.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobflow.core.store import JobStore
    from pandas import DataFrame  # type: ignore[import-untyped, unused-ignore]
    from pydantic import BaseModel

    from ionloop.flows.concurrent_learning.maker import ConcurrentLearningMaker
    from ionloop.flows.distillation.maker import DistilMaker
    from ionloop.formats.reading import load_structures
    from ionloop.jobs.explore.ase import AseExploreMaker
    from ionloop.jobs.explore.lammps import LammpsExploreMaker
    from ionloop.jobs.label.dft import Cp2kLabelMaker, GpawLabelMaker
    from ionloop.jobs.label.external import ExternalLabelMaker
    from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
    from ionloop.jobs.label.vasp import VaspLabelMaker
    from ionloop.jobs.select import WindowSelectMaker
    from ionloop.jobs.train.chgnet import ChgnetTrainMaker
    from ionloop.jobs.train.deepmd import DeepmdTrainMaker
    from ionloop.jobs.train.dpa import DpaTrainMaker
    from ionloop.jobs.train.mace import MaceTrainMaker
    from ionloop.jobs.train.sevennet import SevennetTrainMaker
    from ionloop.preflight.check import Report, check
    from ionloop.runfile.errors import RunFileError
    from ionloop.runfile.model import RunFile
    from ionloop.runfile.reading import load
    from ionloop.runs.launch import resume, start
    from ionloop.runs.queue import submit
    from ionloop.schemas.errors import IonloopError
    from ionloop.schemas.frames import Frames
    from ionloop.selection.trust import classify
    from ionloop.stores.connect import open_store

__all__ = [
    "AseExploreMaker",
    "ChgnetTrainMaker",
    "ConcurrentLearningMaker",
    "Cp2kLabelMaker",
    "DeepmdTrainMaker",
    "DistilMaker",
    "DpaTrainMaker",
    "ExternalLabelMaker",
    "ForceFieldLabelMaker",
    "Frames",
    "GpawLabelMaker",
    "IonloopError",
    "LammpsExploreMaker",
    "MaceTrainMaker",
    "Report",
    "RunFile",
    "RunFileError",
    "SevennetTrainMaker",
    "VaspLabelMaker",
    "WindowSelectMaker",
    "check",
    "classify",
    "frames",
    "labels",
    "load",
    "load_structures",
    "open_store",
    "resume",
    "runs",
    "start",
    "submit",
    "turns",
]

_MODULES = {
    "flows.concurrent_learning.maker": "ConcurrentLearningMaker",
    "flows.distillation.maker": "DistilMaker",
    "formats.reading": "load_structures",
    "jobs.explore.ase": "AseExploreMaker",
    "jobs.explore.lammps": "LammpsExploreMaker",
    "jobs.label.dft": "Cp2kLabelMaker GpawLabelMaker",
    "jobs.label.external": "ExternalLabelMaker",
    "jobs.label.forcefield": "ForceFieldLabelMaker",
    "jobs.label.vasp": "VaspLabelMaker",
    "jobs.select": "WindowSelectMaker",
    "jobs.train.chgnet": "ChgnetTrainMaker",
    "jobs.train.deepmd": "DeepmdTrainMaker",
    "jobs.train.dpa": "DpaTrainMaker",
    "jobs.train.mace": "MaceTrainMaker",
    "jobs.train.sevennet": "SevennetTrainMaker",
    "preflight.check": "Report check",
    "runfile.errors": "RunFileError",
    "runfile.model": "RunFile",
    "runfile.reading": "load",
    "runs.launch": "resume start",
    "runs.queue": "submit",
    "schemas.errors": "IonloopError",
    "schemas.frames": "Frames",
    "selection.trust": "classify",
    "stores.connect": "open_store",
}
"""Where the names come from: module below `ionloop`, and names."""

_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ionloop.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__


def runs(store: str | Path | JobStore) -> DataFrame:
    """Return all runs of a store, one per row, the newest last.

    Parameters
    ----------
    store
        The store: its file or URL, or the store itself.
    """
    from ionloop.monitor.runs import runs as query

    with _opened(store) as opened:
        return _table(query(opened))


def turns(store: str | Path | JobStore, run: str | None = None) -> DataFrame:
    """Return the finished turns of a run, one per row.

    Parameters
    ----------
    store
        The store: its file or URL, or the store itself.
    run
        Id of the run; the latest by default.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    """
    from ionloop.monitor.turns import turns as query

    with _opened(store) as opened:
        return _table(query(opened, _known(opened, run)))


def labels(
    store: str | Path | JobStore,
    run: str | None = None,
    *,
    status: str | None = None,
    reason: str | None = None,
    species: Iterable[str] = (),
) -> DataFrame:
    """Return the labels that a run calculated or imported, one per row.

    Parameters
    ----------
    store
        The store: its file or URL, or the store itself.
    run
        Id of the run; the latest by default.
    status
        Only "accepted" or "rejected" ones.
    reason
        Only those rejected for this reason, such as "outlier".
    species
        Only frames that hold all these chemical symbols.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    """
    from ionloop.monitor.frames import labels as query

    with _opened(store) as opened:
        return _table(query(opened, _known(opened, run), status, reason, species))


def frames(store: str | Path | JobStore, run: str | None = None, **criteria: Any) -> DataFrame:
    """Return the frames that a run has judged, one per row, with what became of their label.

    Parameters
    ----------
    store
        The store: its file or URL, or the store itself.
    run
        Id of the run; the latest by default.
    criteria
        ``iteration``, ``verdict``, ``temperature`` (K), ``reason``, ``limit`` as
        `ionloop.monitor.frames.frames` takes them.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    QueryError
        If there is no such verdict, or the turn has no frames.
    """
    from pandas import DataFrame

    from ionloop.monitor.frames import frames as query

    with _opened(store) as opened:
        found = query(opened, _known(opened, run), **criteria)
    return DataFrame(dict(found.columns))


def _opened(store: str | Path | JobStore) -> AbstractContextManager[JobStore]:
    from ionloop.stores.connect import open_store

    if isinstance(store, str | Path):
        return closing(open_store(store, read_only=True))
    return nullcontext(store)


def _known(store: JobStore, run: str | None) -> str:
    from ionloop.monitor.records import find_run

    return run or find_run(store).run


def _table(rows: Iterable[BaseModel]) -> DataFrame:
    """Return models as a table; what they hold by key becomes columns such as ``counts.failed``."""
    from pandas import json_normalize

    return json_normalize([row.model_dump() for row in rows])
