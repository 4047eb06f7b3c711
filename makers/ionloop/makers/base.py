"""The four roles of the loop, and what their jobs share.

A code is swapped by passing another Maker; the loop does not change. A Maker is settings only:
data passes as arguments, and `make` never changes the Maker.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from jobflow import CURRENT_JOB, Flow, Job, JobConfig, JobStore, Maker, OnMissing, job
from jobflow.core.reference import find_and_resolve_references
from monty.json import MontyEncoder

from ionloop.codes.acceptance import Terms
from ionloop.codes.dynamics import MolecularDynamics
from ionloop.schemas.document import Document, Provenance
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.exploration import Stage
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.selection import TrustWindow
from ionloop.stores.connect import LoopStore, open_store

Placement = Mapping[str, dict[str, Any]]  # role → where a queue is to run it

UNFINISHED = "IONLOOP_UNFINISHED"  # environment variable: folder for work that outlives a worker
FINISHED = "finished"
DAY = 86_400.0
FINISHED_DAYS, LEFT_DAYS = 1, 30
LOGS = ("*.log", "screen.txt", "lcurve.out")  # what programs say, worth keeping of a failed job

Reference = Any  # a value now or, in a flow under construction, an OutputReference to it


PART = "part"  # in a job's metadata: its part of the run file, where that is not its role
PRODUCTION = "production"


class FloorError(IonloopError, RuntimeError):
    """Too much of a step failed for the turn to go on."""


def stored_job(schema: type[Document] | None = None, **config: Any) -> Callable[..., Any]:
    """Declare a job whose packed data go to the additional store ``data``.

    Parameters
    ----------
    schema
        Type of the output; left out where the job may replace itself by a flow.
    **config
        Fields of jobflow's `JobConfig`.
    """
    decorator: Callable[..., Any] = job(
        data="packed", output_schema=schema, config=JobConfig(**config)
    )
    return decorator


def collecting_job(
    schema: type[Document] | None = None, *, tolerant: bool = False
) -> Callable[..., Any]:
    """Declare a job that sees every value together with the reference to it.

    So it can pass heavy results on without storing them again. It resolves its references itself,
    against the store of the run: not every engine hands a job both.

    Parameters
    ----------
    schema
        Type of the output; left out where the job may replace itself by a flow.
    tolerant
        Whether the job runs although some of what it collects has failed; its value is then None.
    """
    on_missing = OnMissing.NONE if tolerant else OnMissing.ERROR

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def resolve_and_run(*args: Any, **kwargs: Any) -> Any:
            resolve = functools.partial(
                find_and_resolve_references,
                store=run_store(),
                cache={},
                on_missing=on_missing,
                wrap_resolved=True,
            )
            return function(*resolve(list(args)), **resolve(kwargs))

        config = {"resolve_references": False, "on_missing_references": on_missing}
        return stored_job(schema, expose_store=True, **config)(resolve_and_run)

    return decorate


def run_store() -> JobStore:
    """Return the store of the run that the current job belongs to.

    An engine that hands its jobs a store of its own, such as files to be copied later, names the
    store of the run in the metadata of the job.

    Raises
    ------
    StoreError
        If the store cannot be reached from here.
    """
    exposed: JobStore = CURRENT_JOB.store
    if isinstance(exposed, LoopStore) or (url := metadata().get("store")) is None:
        return exposed
    return _opened(url)


def metadata() -> dict[str, Any]:
    """Return the metadata of the current job; empty where none runs."""
    current = CURRENT_JOB.job
    return current.metadata if current else {}


@contextmanager
def unfinished() -> Iterator[Path]:
    """Provide a folder in which the current job finds its work again after its worker was lost.

    It is named by the job, under the folder that the environment variable ``IONLOOP_UNFINISHED``
    names, which every worker of the role must see. Without the variable it is the current folder,
    and a job that is run again begins anew. So it does beside another worker that was taken for
    lost and is not.

    A folder is left when its job has ended, because the result reaches the store only later: the
    local runner removes it then, and elsewhere a later job does a day after. What nobody came
    back to goes after 30 days.
    """
    root, current = os.environ.get(UNFINISHED), CURRENT_JOB.job
    if not root or current is None:
        yield Path.cwd()
        return
    folder = Path(root).expanduser().absolute() / f"{current.uuid}-{current.index}"
    _remove_old(folder.parent)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FINISHED).unlink(missing_ok=True)
    os.utime(folder)
    with (folder / "lock").open("w") as lock:
        if not _acquired(lock):
            yield Path.cwd()
            return
        try:
            yield folder
        except BaseException:
            _leave_logs(folder)
            raise
    (folder / FINISHED).touch()


def _leave_logs(folder: Path) -> None:
    """Copy the logs of a failed job into the current folder, which its record names."""
    for log in sorted(path for name in LOGS for path in folder.rglob(name)):
        target = Path.cwd() / log.relative_to(folder)
        with suppress(OSError):  # the failure itself is what is to be told
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, target)


def _acquired(lock: IO[str]) -> bool:
    """Tell whether no other worker, taken for lost, is still at work on the same job."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _remove_old(root: Path) -> None:
    for folder in root.glob("*-*/"):
        mark = folder / FINISHED
        days = FINISHED_DAYS if mark.exists() else LEFT_DAYS
        if _age(mark if mark.exists() else folder) > days * DAY:
            shutil.rmtree(folder, ignore_errors=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # somebody else removed it
        return 0.0


@functools.cache
def _opened(url: str) -> LoopStore:
    return open_store(url)


def stamp(settings: Any = None, **versions: str) -> dict[str, Any]:
    """Return the fields every document has: run, iteration, provenance of the current job."""
    current = CURRENT_JOB.job
    return {
        "run": metadata().get("run"),
        "iteration": metadata().get("iteration"),
        "provenance": Provenance(
            job=current.uuid if current else None,
            host=platform.node(),
            versions={"ionloop": _version("ionloop"), **versions},
            input_hash=_hash(settings),
        ),
    }


def assign(job: Job, role: str, name: str, cores: int = 1, *, light: bool = False) -> Job:
    """Give a job its role, a name that people read, and the cores it uses; return it.

    Parameters
    ----------
    job
        A new job.
    role
        Label, train, explore, select, evaluate or decide.
    name
        What people read.
    cores
        Cores it uses.
    light
        Whether it only keeps the books of its role: it needs the store and hardly any time.
    """
    job.name = name
    job.update_metadata({"role": role, "cores": cores, "light": light}, dynamic=False)
    return place(job, metadata().get("placement", {}))


def place(job: Job, placement: Placement) -> Job:
    """Say where a queue is to run a job, by its role; return it.

    Parameters
    ----------
    job
        A job with its role.
    placement
        Configuration of the workflow engine by role.
    """
    config = place_of(job.metadata, placement)
    if config is not None:
        job.config.manager_config = dict(config)
    return job


def place_of(metadata: Mapping[str, Any], placement: Placement) -> dict[str, Any] | None:
    """Return the configuration for a job with this metadata; None where nothing is said.

    What a role's light jobs take is under "select", what is not named under "default".
    """
    role = "select" if metadata.get("light") else str(metadata.get("role"))
    return placement.get(role, placement.get("default"))


@dataclass
class LabelMaker(Maker, ABC):
    """Buys labels: energies, forces and virials of frames."""

    name: str = "label"

    @property
    @abstractmethod
    def level(self) -> LevelOfTheory:
        """The level of theory of the labels."""

    @property
    def terms(self) -> Terms:
        """On what terms labels are taken from the ledger, or bought."""
        return Terms(level=self.level)

    @abstractmethod
    def make(self, frames: Reference) -> Flow:
        """Label a list of Frames; the output is a `Labels` document."""

    def for_all(self) -> LabelMaker:
        """Return the Maker that waits for every label, where it would go on without some."""
        return self

    @abstractmethod
    def relax(self, frames: Reference) -> Job:
        """Relax cells and positions of a list of Frames; the output is a list of Frames."""

    def aimd(self, frames: Reference, run: MolecularDynamics) -> Job:
        """Run molecular dynamics from a list of Frames; the output is a `Labels` document.

        Every `run.every`-th step is a label at the Maker's level of theory. ASE moves the atoms
        where the Maker's settings give an ASE calculator.

        Raises
        ------
        NotImplementedError
            If they do not: the labeller runs no molecular dynamics.
        """
        from ionloop.makers.dynamics import aimd_with_ase  # which needs this module

        return aimd_with_ase(self, frames, run)


@dataclass
class TrainMaker(Maker, ABC):
    """Trains an ensemble of models.

    Parameters
    ----------
    type_map
        Chemical symbols in the order of the models' types; empty: those of the start structures.
    validation_fraction
        Fraction of the frames held back from training, decided by trajectory for good.
    allow_mixed
        Whether labels of several levels of theory may be trained on together.
    """

    name: str = "train"
    type_map: list[str] = field(default_factory=list)
    validation_fraction: float = 0.05
    allow_mixed: bool = False

    @abstractmethod
    def make(self, dataset: Reference, previous: Reference = None, seed: int = 0) -> Flow:
        """Train on a list of `Labels`; the output is an `EnsembleDoc`.

        Parameters
        ----------
        dataset
            List of `Labels`.
        previous
            The ensemble of the last turn, to start from if the settings ask for it.
        seed
            Seed of the first model; the others follow it.
        """

    @abstractmethod
    def evaluate(self, ensemble: Reference, labels: Reference) -> Job:
        """Compare an ensemble with `Labels`; the output is an `EvaluationDoc`."""


@dataclass
class ExploreMaker(Maker, ABC):
    """Explores configuration space with an ensemble.

    Parameters
    ----------
    type_map
        Chemical symbols in the order of the models' types; empty: those of the start structures.
    """

    name: str = "explore"
    type_map: list[str] = field(default_factory=list)

    @abstractmethod
    def make(
        self,
        ensemble: Reference,
        stage: Stage,
        structures: Reference,
        trust: TrustWindow,
        seed: int = 0,
        previous: Reference = None,
    ) -> Flow:
        """Run a stage; the output is an `ExplorationDoc`.

        Parameters
        ----------
        ensemble
            The models.
        stage
            Temperatures, pressures, lengths.
        structures
            List of Frames: the start structures.
        trust
            Window with which frames are judged where they are made.
        seed
            Seed of disturbances and velocities.
        previous
            An `ExplorationDoc` of the same stage: each trajectory starts at the last good frame
            that it had there, if it had one.
        """


@dataclass
class SelectMaker(Maker, ABC):
    """Picks frames for labelling."""

    name: str = "select"

    @property
    @abstractmethod
    def max_labels(self) -> int:
        """Labels per turn, where a stage has no number of its own."""

    @abstractmethod
    def at_random(self) -> SelectMaker:
        """Return the Maker that picks at random from all frames that are physically sound."""

    @abstractmethod
    def make(
        self, exploration: Reference, dataset: Reference, max_labels: int, seed: int = 0
    ) -> Job:
        """Pick at most `max_labels` from an `ExplorationDoc`; the output is a `SelectionDoc`."""


@functools.cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _hash(settings: Any) -> str | None:
    if settings is None:
        return None
    return hashlib.sha256(MontyEncoder(sort_keys=True).encode(settings).encode()).hexdigest()
