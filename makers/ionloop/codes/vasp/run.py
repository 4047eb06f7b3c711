"""Run VASP: atomate2 writes the inputs, custodian watches the run, we read the result."""

from __future__ import annotations

import contextlib
import shutil
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.vasp import comparison, inputs, results
from ionloop.codes.vasp.inputs import Arrangement
from ionloop.codes.vasp.potcars import check_potcars
from ionloop.codes.vasp.presets import of_frame
from ionloop.codes.vasp.results import VaspError
from ionloop.programs.die_with_parent import die_with_parent
from ionloop.programs.environment import CORES
from ionloop.programs.errors import MissingExtraError
from ionloop.schemas.frames import Frames

if TYPE_CHECKING:
    from ionloop.codes.vasp.settings import VaspSettings

POLL_SECONDS = 1.0
"""Interval in s at which custodian checks whether VASP has ended."""

LOOK_SECONDS = 300.0
"""Longest interval in s at which custodian's handlers look at a running calculation."""


def calculate(settings: VaspSettings, frame: Frames, folder: Path, cores: int = 1) -> Calculated:
    """Calculate energy, forces and virial of a frame.

    Parameters
    ----------
    settings
        Level of theory and commands.
    frame
        Frames of one.
    folder
        Folder of the run; anything in it is removed first.
    cores
        MPI ranks.

    Raises
    ------
    VaspError
        If there was no result.
    OtherLevelError
        If the POTCARs or the version of VASP are not those of the level of theory.
    """
    begin = time.perf_counter()
    run_vasp("StaticMaker", settings, frame, folder, cores)
    result = Arrangement.of(frame).restore(results.read_results(folder)[-1])
    return replace(
        result,
        seconds=time.perf_counter() - begin,
        cores=cores,
        level_difference=comparison.compare_level(settings, frame, folder),
    )


def relax(settings: VaspSettings, frame: Frames, folder: Path, cores: int = 1) -> Frames:
    """Relax cell and positions of a frame; return it without labels, on the grid of the ids.

    Parameters
    ----------
    settings, frame, folder, cores
        As for `calculate`.

    Raises
    ------
    VaspError
        If the relaxation did not converge, or ended at another level of theory.
    """
    changes = inputs.relaxation(settings)
    run_vasp("RelaxMaker", settings, frame, folder, cores, **changes)
    difference = comparison.compare_level(settings, frame, folder, **changes)
    if difference:
        raise VaspError(f"the relaxation of {frame.formula} is of another level: {difference}")
    return Arrangement.of(frame).restore_frame(results.read_final_frame(folder)).snapped()


def dynamics(
    settings: VaspSettings, frame: Frames, run: MolecularDynamics, folder: Path, cores: int = 1
) -> list[Calculated]:
    """Run molecular dynamics from a frame; return the steps that `run` keeps.

    Parameters
    ----------
    settings, frame, folder, cores
        As for `calculate`.
    run
        Temperature, length, and which steps are kept.

    Raises
    ------
    VaspError
        If there was no result.
    """
    begin, changes = time.perf_counter(), inputs.dynamics(run)
    run_vasp("MDMaker", settings, frame, folder, cores, **changes)
    steps = results.read_results(folder)[run.kept.start :: run.every]
    shared: dict[str, Any] = {
        "seconds": (time.perf_counter() - begin) / max(len(steps), 1),
        "cores": cores,
        "level_difference": comparison.compare_level(settings, frame, folder, **changes),
    }
    return [replace(Arrangement.of(frame).restore(step), **shared) for step in steps]


def run_vasp(
    kind: str, settings: VaspSettings, frame: Frames, folder: Path, cores: int, **changes: Any
) -> None:
    """Run one of atomate2's Makers in a folder: write inputs, run under custodian, parse.

    It also returns when custodian gave up on a run whose electronic steps do not converge: the
    files of such a run are complete, and reading them shows it.

    Parameters
    ----------
    kind
        StaticMaker, RelaxMaker or MDMaker.
    settings, frame, folder, cores
        As for `calculate`.
    **changes
        INCAR tags of another kind of run than a label.

    Raises
    ------
    VaspError
        If the run gave no result, with custodian's corrections and VASP's last output.
    OtherLevelError
        If the POTCARs of this host are not those of the level of theory, in which case nothing
        was started; or if the version of VASP that ran is another one.
    MissingPotcarError
        If there are none.
    MissingExtraError
        If atomate2 is not installed.
    """
    check_potcars(settings, frame.species)
    maker = atomate2_maker(kind, of_frame(settings, frame), cores, **changes)
    from custodian.custodian import CustodianError

    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left there
    folder.mkdir(parents=True)
    with contextlib.chdir(folder), warnings.catch_warnings(action="ignore"):
        try:
            # The undecorated method: it runs here and now, and makes no job.
            type(maker).make.original(maker, inputs.to_structure(frame))
        except CustodianError as problem:
            if not results.is_unconverged(folder):
                raise VaspError(results.crash_message(problem, folder)) from problem
        results.check_ended(folder)
        comparison.check_program(settings, frame, folder)


def atomate2_maker(kind: str, settings: VaspSettings, cores: int, **changes: Any) -> Any:
    """Return one of atomate2's Makers with our inputs, command and handlers.

    Parameters
    ----------
    kind
        StaticMaker, RelaxMaker or MDMaker.
    settings, cores
        As for `calculate`.
    **changes
        INCAR tags of another kind of run than a label.

    Raises
    ------
    MissingExtraError
        If atomate2 or custodian is not installed.
    """
    try:
        from atomate2.vasp.jobs import core, md
    except ImportError as problem:
        raise MissingExtraError("atomate2", "vasp", "labelling with VASP") from problem

    def command(given: str) -> str:
        return die_with_parent(given.replace(CORES, str(cores)))

    maker_type: Any = md.MDMaker if kind == "MDMaker" else getattr(core, kind)
    look = min(LOOK_SECONDS, settings.frozen_after / 2)
    poll = min(POLL_SECONDS, look)
    return maker_type(
        input_set_generator=inputs.input_set(settings, **changes),
        run_vasp_kwargs={
            "vasp_cmd": command(settings.vasp_cmd),
            "vasp_gamma_cmd": command(settings.vasp_gamma_cmd or settings.vasp_cmd),
            "max_errors": settings.max_errors,
            "handlers": handlers(settings),
            "custodian_kwargs": {"polling_time_step": poll, "monitor_freq": round(look / poll)},
        },
        # Convergence is judged with everything else, not raised as an error.
        stop_children_kwargs={"handle_unsuccessful": False},
    )


def handlers(settings: VaspSettings) -> list[Any]:
    """Return new instances of the handlers of custodian that may save a label.

    They have to be new because they count their errors. Handlers whose only cure is another level
    of theory (smearing, k-points) are left out, and so are those that judge the energy, which is
    what the limits of acceptance are for.
    """
    from custodian.vasp import handlers as known

    return [
        known.VaspErrorHandler(),
        known.UnconvergedErrorHandler(),
        known.NonConvergingErrorHandler(),
        known.FrozenJobErrorHandler(timeout=settings.frozen_after),
        known.StdErrHandler(),
    ]
