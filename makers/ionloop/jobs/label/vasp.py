"""Labels from VASP: atomate2 writes the inputs, custodian watches the run, we judge the result."""

from __future__ import annotations

import contextlib
import shutil
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobflow import Job

from ionloop.codes import vasp
from ionloop.codes.common.acceptance import Terms, accept
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.vasp import comparison, log, results
from ionloop.codes.vasp.inputs import Arrangement
from ionloop.codes.vasp.results import VaspError
from ionloop.codes.vasp.settings import VaspSettings
from ionloop.jobs.decorators import stored_job
from ionloop.jobs.label.batches import BatchLabelMaker
from ionloop.jobs.label.dynamics import enter, judge
from ionloop.jobs.label.record import LabelBatch, by_id, record_labels
from ionloop.jobs.placement import assign
from ionloop.jobs.provenance import stamp
from ionloop.jobs.roles import Reference
from ionloop.jobs.tolerances import in_force
from ionloop.programs.die_with_parent import tethered
from ionloop.programs.environment import CORES
from ionloop.programs.errors import MissingExtraError
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, Labels, LevelOfTheory

POLL_SECONDS = 1.0
"""How often it is looked whether VASP has ended, in s."""


LOOK_SECONDS = 300.0
"""How often the handlers look at a running calculation, at the longest, in s."""


@dataclass
class VaspLabelMaker(BatchLabelMaker):
    """Labels from VASP, one job per frame, so that a queue spreads them.

    Parameters
    ----------
    settings
        Level of theory, command, and the limits on the labels.
    """

    name: str = "label with VASP"
    batch_size: int = 1
    quorum: float = 0.95
    settings: VaspSettings = field(default_factory=lambda: VaspSettings(preset="lgps"))

    def __post_init__(self) -> None:
        """Fix the level of theory: what the POTCARs are, where the Maker is made."""
        self.settings = vasp.pinned(self.settings)

    @property
    def level(self) -> LevelOfTheory:
        """The level of theory of the labels."""
        return vasp.level_of_theory(self.settings)

    @property
    def terms(self) -> Terms:
        """On what terms labels are taken from the ledger, or bought."""
        settings = self.settings
        return Terms(level=self.level, limits=settings.limits, effort=vasp.effort(settings))

    def label(self, frame: Frames) -> LabelDoc:
        """Calculate one frame in a folder of its own, and judge the result.

        Raises
        ------
        VaspError, OtherLevelError
            If there was no result, or one of another level of theory.
        """
        return label(self, frame)

    def batch(self, frames: list[Frames], frame_ids: list[str]) -> Job:
        """Return the job that labels the frames with the given ids.

        Raises
        ------
        MissingPotcarError
            If it is not known which POTCAR the labels would be of.
        """
        vasp.check_known(self.settings, [symbol for part in frames for symbol in part.species])
        return assign(label_with_vasp(self, frames, frame_ids), "label", "label", self.cores)

    def relax(self, frames: Reference) -> Job:
        """Relax cells and positions of a list of Frames; the output is a list of Frames."""
        return assign(relax_with_vasp(self, frames), "label", "relax", self.cores)

    def aimd(self, frames: Reference, run: MolecularDynamics) -> Job:
        """Run molecular dynamics from a list of Frames; the output is a `Labels` document.

        VASP runs it in one piece, with a Nosé-Hoover thermostat. Every `run.every`-th step is a
        label at the Maker's level of theory, entered into the ledger like any other.
        """
        job = dynamics_with_vasp(self, frames, run)
        return assign(job, "label", f"AIMD at {run.temperature:g} K", self.cores)


@stored_job(LabelBatch, expose_store=True)
def label_with_vasp(
    maker: VaspLabelMaker, frames: list[Frames], frame_ids: list[str]
) -> LabelBatch:
    """Label frames one by one, each in a folder of its own, and record each label at once."""
    maker = in_force(maker)
    n_calculated = record_labels(by_id(frames, frame_ids), maker.terms, maker.label, maker.cores)
    return LabelBatch(**stamp(maker.settings), frame_ids=frame_ids, n_calculated=n_calculated)


@stored_job()
def relax_with_vasp(maker: VaspLabelMaker, frames: list[Frames]) -> list[Frames]:
    """Relax cells and positions of every frame."""
    singles = [part[index] for part in frames for index in range(len(part))]
    return [relaxed(maker, frame) for frame in singles]


@stored_job(Labels, expose_store=True)
def dynamics_with_vasp(
    maker: VaspLabelMaker, frames: list[Frames], run: MolecularDynamics
) -> Labels:
    """Run molecular dynamics from every frame, and record every so many steps as labels."""
    singles = [part[index] for part in frames for index in range(len(part))]
    return enter(maker, (doc for frame in singles for doc in trajectory(maker, frame, run)))


def label(maker: VaspLabelMaker, frame: Frames) -> LabelDoc:
    """Calculate one frame and judge the result.

    Raises
    ------
    VaspError
        If there was no result.
    """
    folder, begin = Path.cwd() / frame.ids[0], time.perf_counter()
    run_vasp("StaticMaker", maker, frame, folder)
    result = Arrangement.of(frame).restore(results.read_results(folder)[-1])
    spent = replace(
        result,
        seconds=time.perf_counter() - begin,
        cores=maker.cores,
        level_difference=comparison.compare_level(maker.settings, frame, folder),
    )
    return accept(frame, spent, maker.level, maker.settings.limits)


def relaxed(maker: VaspLabelMaker, frame: Frames) -> Frames:
    """Relax one frame, on the grid of the ids at the end.

    Raises
    ------
    VaspError
        If the relaxation did not converge, or ended at another level of theory.
    """
    folder, changes = Path.cwd() / f"relax-{frame.ids[0]}", vasp.relaxation(maker.settings)
    run_vasp("RelaxMaker", maker, frame, folder, **changes)
    difference = comparison.compare_level(maker.settings, frame, folder, **changes)
    if difference:
        raise VaspError(f"the relaxation of {frame.formula} is of another level: {difference}")
    return Arrangement.of(frame).restore_frame(results.read_final_frame(folder)).snapped()


def trajectory(maker: VaspLabelMaker, frame: Frames, run: MolecularDynamics) -> list[LabelDoc]:
    """Run molecular dynamics from one frame; return every `run.every`-th step as a label.

    Raises
    ------
    VaspError
        If there was no result.
    """
    folder, begin = Path.cwd() / f"aimd-{frame.ids[0]}", time.perf_counter()
    changes = vasp.dynamics(run)
    run_vasp("MDMaker", maker, frame, folder, **changes)
    steps = results.read_results(folder)[run.kept.start :: run.every]
    shared: dict[str, Any] = {
        "seconds": (time.perf_counter() - begin) / max(len(steps), 1),
        "cores": maker.cores,
        "level_difference": comparison.compare_level(maker.settings, frame, folder, **changes),
    }
    labels = [replace(Arrangement.of(frame).restore(step), **shared) for step in steps]
    return [judge(maker, frame, run, label) for label in labels]


def run_vasp(kind: str, maker: VaspLabelMaker, frame: Frames, folder: Path, **changes: Any) -> None:
    """Run one of atomate2's Makers in a folder: write inputs, run under custodian, parse.

    Returns too where custodian gave up on a run whose electronic steps do not converge: its
    files are whole, and say so.

    Parameters
    ----------
    kind
        StaticMaker, RelaxMaker or MDMaker.
    maker
        Level of theory, command and cores.
    frame
        Frames of one.
    folder
        Folder of the run; what an interrupted run left there is removed.
    **changes
        INCAR tags of another kind of run than a label.

    Raises
    ------
    VaspError
        If the run gave no result, with custodian's corrections and VASP's last words.
    OtherLevelError
        If the POTCARs here are not those of the level of theory, and nothing was started; or if
        what ran was not.
    MissingPotcarError
        If there are none.
    MissingExtraError
        If atomate2 is not installed.
    """
    vasp.check_potcars(maker.settings, frame.species)
    settings = vasp.of_frame(maker.settings, frame)
    theirs = atomate2_maker(kind, settings, maker.cores, **changes)
    from custodian.custodian import CustodianError

    with working_folder(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # The undecorated method: this job is the job, and its result is a label.
            type(theirs).make.original(theirs, vasp.to_structure(frame))
        except CustodianError as problem:
            if not results.is_unconverged(folder):
                raise VaspError(log.obituary(problem, folder)) from problem
        results.check_ended(folder)
        comparison.check_program(maker.settings, frame, folder)


def atomate2_maker(kind: str, settings: VaspSettings, cores: int, **changes: Any) -> Any:
    """Return one of atomate2's Makers with our inputs, command and handlers.

    Raises
    ------
    MissingExtraError
        If atomate2 or custodian is not installed.
    """
    try:
        from atomate2.vasp.jobs import core, md
    except ImportError as problem:
        raise MissingExtraError("atomate2", "vasp", "labelling with VASP") from problem
    maker_type: Any = md.MDMaker if kind == "MDMaker" else getattr(core, kind)
    look = min(LOOK_SECONDS, settings.frozen_after / 2)
    poll = min(POLL_SECONDS, look)
    return maker_type(
        input_set_generator=vasp.input_set(settings, **changes),
        run_vasp_kwargs={
            "vasp_cmd": _command(settings.vasp_cmd, cores),
            "vasp_gamma_cmd": _command(settings.vasp_gamma_cmd or settings.vasp_cmd, cores),
            "max_errors": settings.max_errors,
            "handlers": handlers(settings),
            "custodian_kwargs": {"polling_time_step": poll, "monitor_freq": round(look / poll)},
        },
        # Convergence is judged with everything else, not raised as an error.
        stop_children_kwargs={"handle_unsuccessful": False},
    )


def _command(command: str, cores: int) -> str:
    return tethered(command.replace(CORES, str(cores)))


def handlers(settings: VaspSettings) -> list[Any]:
    """Return custodian's handlers that may save a label, new ones: they count their errors.

    Handlers whose only cure is another level of theory (smearing, k-points) are left out, and
    so are those that judge the energy, which the limits do.
    """
    from custodian.vasp.handlers import (
        FrozenJobErrorHandler,
        NonConvergingErrorHandler,
        StdErrHandler,
        UnconvergedErrorHandler,
        VaspErrorHandler,
    )

    return [
        VaspErrorHandler(),
        UnconvergedErrorHandler(),
        NonConvergingErrorHandler(),
        FrozenJobErrorHandler(timeout=settings.frozen_after),
        StdErrHandler(),
    ]


@contextlib.contextmanager
def working_folder(folder: Path) -> Iterator[None]:
    """Work in a new folder; what an interrupted run left there is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with contextlib.chdir(folder):
        yield
