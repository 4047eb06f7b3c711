"""Molecular dynamics with an ensemble of models in LAMMPS, many trajectories in one process."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ionloop.codes.common.md import check_trajectories
from ionloop.codes.common.progress import plan_trajectory, read_last_row
from ionloop.codes.common.trajectory import Trajectory, TrajectoryTask
from ionloop.codes.lammps import restart
from ionloop.codes.lammps.cell import data_file
from ionloop.codes.lammps.output import MAX_DEVI_F, STEP, read_trajectory
from ionloop.codes.lammps.program import START_LOG, LammpsError, command_words
from ionloop.codes.lammps.restart import Leg
from ionloop.codes.lammps.script import input_script
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.programs.concurrent import run_concurrently
from ionloop.programs.log import last_words, log_text
from ionloop.programs.process import has_ended, running_program, status_words
from ionloop.programs.resume_marker import clear_unless_same_work
from ionloop.schemas.potential import DEEPMD, StoredFile

POLL_SECONDS = 0.5

GRACE_SECONDS = 10.0  # for LAMMPS to reach the next dump and halt by itself

_SCRIPT = "in.lammps"

_SCREEN = "screen.txt"

_ASKED_TO_END = {-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT}


def run_trajectories(
    tasks: Sequence[TrajectoryTask],
    models: Sequence[StoredFile],
    type_map: Sequence[str],
    settings: LammpsSettings,
    folder: Path,
    processes: int = 1,
    kind: str = DEEPMD,
) -> list[Trajectory]:
    """Run trajectories one after another in one LAMMPS process, or in a few at the same time.

    A trajectory that explodes is halted and the next one begins; if LAMMPS crashes or hangs, it is
    started again for the trajectories that are left. The valid part of each is kept. On one
    thread, equal seeds give equal trajectories.

    In a folder where the same trajectories were interrupted, those that were over are not run
    again, and the others continue from their newest restart file. The results are the same as
    without the interruption, on one thread to the last bit.

    Parameters
    ----------
    tasks
        The trajectories; their indices differ.
    models
        Frozen models of the ensemble, two or more.
    type_map
        Chemical symbols in the order of the models' types.
    settings
        How LAMMPS is run, and when a trajectory has exploded.
    folder
        Working folder; it is created if it does not exist.
    processes
        LAMMPS processes that share the trajectories.
    kind
        Kind of the potentials, a key of `PAIR_STYLES`.

    Returns
    -------
    list[Trajectory]
        One per task, in their order. The frames of an exploded one may be none at all.

    Raises
    ------
    LammpsError
        If LAMMPS is absent, is ended from outside, or refuses its input before the first
        trajectory begins.
    ValueError
        If there are fewer than two models, indices repeat, a start is not one frame, or holds an
        element that the type map lacks.
    """
    check_trajectories(tasks, models)
    command_words(settings.command)
    folder.mkdir(parents=True, exist_ok=True)
    script = partial(input_script, type_map=type_map, settings=settings, kind=kind)
    run = partial(_run_in_turn, models=models, type_map=type_map, settings=settings, script=script)
    n = min(processes, len(tasks))
    if n < 2:
        return run(tasks, folder=folder)
    calls = [partial(run, tasks[i::n], folder=folder / f"process-{i}") for i in range(n)]
    found: dict[int, Trajectory] = {}
    for outcome in run_concurrently(calls, folder):
        if isinstance(outcome, BaseException):
            raise outcome
        found |= {trajectory.task.index: trajectory for trajectory in outcome}
    return [found[task.index] for task in tasks]


def _run_in_turn(
    tasks: Sequence[TrajectoryTask],
    models: Sequence[StoredFile],
    type_map: Sequence[str],
    settings: LammpsSettings,
    script: Callable[..., str],
    folder: Path,
) -> list[Trajectory]:
    folder.mkdir(parents=True, exist_ok=True)
    starts = {f"{task.name}.data": data_file(task.start, type_map) for task in tasks}
    files = [
        model.write(folder, f"model-{number}{Path(model.name).suffix}").name
        for number, model in enumerate(models)
    ]
    script = partial(script, models=files)
    texts = [text.encode() for text in (*map(script, tasks), *starts.values())]
    clear_unless_same_work(folder, ["trajectory-*"], [*texts, *(model.content for model in models)])
    for name, text in starts.items():
        (folder / name).write_text(text)
    for task in tasks:
        plan_trajectory(task.name, task.steps, folder)
    begun = False
    while left := [task for task in tasks if not restart.end_mark(task.name, folder).exists()]:
        plans = [restart.legs_to_run(task, settings, folder) for task in left]
        sections = map(lambda task, plan: script(task, first_leg=plan[0].number), left, plans)
        (folder / _SCRIPT).write_text("".join(sections))
        begun = _run_process([leg for plan in plans for leg in plan], settings, folder, begun)
    return [read_trajectory(task, settings, folder) for task in tasks]


def _run_process(plan: Sequence[Leg], settings: LammpsSettings, folder: Path, begun: bool) -> bool:
    """Run legs until LAMMPS ends, and note what became of their trajectories.

    Returns whether any trajectory has begun, in this process or (`begun`) in an earlier one.
    """
    names = list(dict.fromkeys(leg.trajectory for leg in plan))
    start, counted = time.monotonic(), _counted(names, folder)
    command = [*command_words(settings.command), "-in", _SCRIPT, "-log", START_LOG]
    with (
        (folder / _SCREEN).open("ab") as screen,
        running_program(command, folder, screen) as process,
    ):
        cause = _watch(process, plan, settings, folder)
    begun = begun or any((folder / f"{leg.name}.temperature").exists() for leg in plan)
    if process.returncode in _ASKED_TO_END and not cause:
        raise LammpsError(
            f"LAMMPS was ended from outside (exit status {process.returncode}), as queues do at a "
            f"time limit; run the job again to go on with what is in {folder}"
        )
    stopped = names  # what LAMMPS left out, if it ended normally
    if cause or process.returncode != 0:  # a launcher that is ended may report success
        cause = cause or _crash_message(plan, folder, process.returncode)
        if not begun:
            raise LammpsError(f"LAMMPS did not begin a trajectory: {cause} (in {folder})")
        stopped = [leg.trajectory for leg in (restart.started(plan, folder) or plan[:1])[-1:]]
    stopped = [name for name in stopped if not restart.end_mark(name, folder).exists()]
    rest = time.monotonic() - start - (_counted(names, folder) - counted)
    restart.add_seconds([*stopped, *names][0], folder, rest)
    for name in stopped:
        restart.end_mark(name, folder).write_text(cause)
    return begun


def _counted(names: Sequence[str], folder: Path) -> float:
    return sum(restart.seconds_of(name, folder) for name in names)


def _watch(
    process: subprocess.Popen[bytes], plan: Sequence[Leg], settings: LammpsSettings, folder: Path
) -> str:
    """Wait for LAMMPS, asking exploded trajectories to halt.

    Returns
    -------
    str
        Why LAMMPS has to be ended, or nothing if it ended by itself.
    """
    progress, since = None, time.monotonic()
    while not has_ended(process, POLL_SECONDS):
        begun = restart.started(plan, folder)
        row = read_last_row(folder / f"{begun[-1].name}.deviation") if begun else None
        patience = settings.stall_timeout
        if row is not None and not row[MAX_DEVI_F] <= settings.stop_max_devi_f:
            (folder / f"{begun[-1].trajectory}.stop").touch()
            patience = GRACE_SECONDS
        current = (len(begun), None if row is None else row[STEP])
        if current != progress:
            progress, since = current, time.monotonic()
        if time.monotonic() - since > patience:
            return f"LAMMPS made no progress for {patience:g} s and was ended"
    return ""


def _crash_message(plan: Sequence[Leg], folder: Path, status: int) -> str:
    logs = [folder / START_LOG, *(restart.log_of(leg, folder) for leg in plan)]
    written = [log for log in logs if log.exists()]
    text = log_text(written[-1]) if written else ""
    error = re.search(r"^ERROR[^:]*: (.*?)(?: \(\S+:\d+\))?$", text, re.MULTILINE)
    if error:
        return f"LAMMPS reports: {error[1]}"
    said = last_words(log_text(folder / _SCREEN))
    return f"LAMMPS {status_words(status)}{f'; it said: {said}' if said else ''}"
