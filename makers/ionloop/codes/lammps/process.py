"""Molecular dynamics with an ensemble of DeePMD models in LAMMPS, many trajectories a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ionloop.codes.common.trajectory import Trajectory, TrajectoryTask
from ionloop.codes.lammps import restart as lammps_folder
from ionloop.codes.lammps.cell import data_file
from ionloop.codes.lammps.errors import LammpsError
from ionloop.codes.lammps.output import read_last_row
from ionloop.codes.lammps.program import START_LOG, command_words
from ionloop.codes.lammps.restart import Leg, end, is_over, legs_to_run, log_of, started
from ionloop.codes.lammps.script import input_script
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.codes.lammps.trajectory import MAX_DEVI_F, STEP, read_trajectory
from ionloop.programs.concurrent import side_by_side
from ionloop.programs.environment import DEEPMD_ENVIRONMENT
from ionloop.programs.log import last_words, log_text
from ionloop.programs.process import status_words
from ionloop.programs.resume_marker import clear_unless_same
from ionloop.schemas.potential import StoredFile

POLL_SECONDS = 0.5

ENDING_SECONDS = 5.0

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
) -> list[Trajectory]:
    """Run trajectories one after another in one LAMMPS process, or in a few side by side.

    A trajectory that explodes is halted and the next one begins; if LAMMPS dies or hangs, it is
    started again for the trajectories that are left. What was valid of each is kept. On one
    thread, equal seeds give equal trajectories.

    In a folder where the same trajectories were interrupted, those that were over are not run
    again, and the others go on from their newest restart file. They end up as if nothing had
    happened, to the last bit where the thread is one.

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
        Where to work; it is made if need be.
    processes
        LAMMPS processes that share the trajectories.

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
    _check(tasks, models)
    command_words(settings.command)
    folder.mkdir(parents=True, exist_ok=True)
    if min(processes, len(tasks)) < 2:
        return _run_in_turn(tasks, models, type_map, settings, folder)
    calls = [
        partial(
            _run_in_turn, tasks[i::processes], models, type_map, settings, folder / f"process-{i}"
        )
        for i in range(min(processes, len(tasks)))
    ]
    found: dict[int, Trajectory] = {}
    for outcome in side_by_side(calls, folder):
        if isinstance(outcome, BaseException):
            raise outcome
        found |= {trajectory.task.index: trajectory for trajectory in outcome}
    return [found[task.index] for task in tasks]


def _run_in_turn(
    tasks: Sequence[TrajectoryTask],
    models: Sequence[StoredFile],
    type_map: Sequence[str],
    settings: LammpsSettings,
    folder: Path,
) -> list[Trajectory]:
    folder.mkdir(parents=True, exist_ok=True)
    starts = {f"{task.name}.data": data_file(task.start, type_map) for task in tasks}
    files = [_write_model(model, i, folder) for i, model in enumerate(models)]
    script = partial(input_script, models=files, type_map=type_map, settings=settings)
    texts = [text.encode() for text in (*map(script, tasks), *starts.values())]
    clear_unless_same(folder, ["trajectory-*"], [*texts, *(model.content for model in models)])
    for name, text in starts.items():
        (folder / name).write_text(text)
    begun = False
    while left := [task for task in tasks if not is_over(task.name, folder)]:
        plans = [legs_to_run(task, settings, folder) for task in left]
        sections = map(lambda task, plan: script(task, first_leg=plan[0].number), left, plans)
        (folder / _SCRIPT).write_text("".join(sections))
        begun = _run_process([leg for plan in plans for leg in plan], settings, folder, begun)
    return [read_trajectory(task, settings, folder) for task in tasks]


def _check(tasks: Sequence[TrajectoryTask], models: Sequence[StoredFile]) -> None:
    if len(models) < 2:
        raise ValueError(f"a model deviation needs two models or more, got {len(models)}")
    if len({task.index for task in tasks}) < len(tasks):
        raise ValueError("two trajectories have the same index, which names their files")
    for task in tasks:
        if len(task.start) != 1:
            raise ValueError(f"trajectory {task.index} starts from {len(task.start)} frames, not 1")


def _write_model(model: StoredFile, number: int, folder: Path) -> str:
    return model.write(folder, f"model-{number}{Path(model.name).suffix}").name


def _run_process(plan: Sequence[Leg], settings: LammpsSettings, folder: Path, begun: bool) -> bool:
    """Run legs until LAMMPS is through or dies, and note what became of their trajectories.

    Returns whether any trajectory has begun, in this process or (`begun`) in one before it.
    """
    names = list(dict.fromkeys(leg.trajectory for leg in plan))
    start, counted = time.monotonic(), _counted(names, folder)
    with _lammps(settings.command, folder) as process:
        death = _watch(process, plan, settings, folder)
    begun = begun or any((folder / f"{leg.name}.temperature").exists() for leg in plan)
    if process.returncode in _ASKED_TO_END and not death:
        raise LammpsError(
            f"LAMMPS was ended from outside (exit status {process.returncode}), as queues do at a "
            f"time limit; run the job again to go on with what is in {folder}"
        )
    if process.returncode != 0:
        death = death or _last_words(plan, folder, process.returncode)
        if not begun:
            raise LammpsError(f"LAMMPS did not begin a trajectory: {death} (in {folder})")
    dead = _dead(plan, folder, died=process.returncode != 0)
    rest = time.monotonic() - start - (_counted(names, folder) - counted)
    lammps_folder.add_seconds([*dead, *names][0], folder, rest)
    for name in dead:
        end(name, folder, death)
    return begun


def _counted(names: Sequence[str], folder: Path) -> float:
    return sum(lammps_folder.seconds(name, folder) for name in names)


def _dead(plan: Sequence[Leg], folder: Path, *, died: bool) -> list[str]:
    """Return the trajectory that LAMMPS died of, or those that it passed over."""
    names = list(dict.fromkeys(leg.trajectory for leg in plan))
    if died:
        names = [leg.trajectory for leg in (started(plan, folder) or plan[:1])[-1:]]
    return [name for name in names if not is_over(name, folder)]


@contextmanager
def _lammps(command: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [*command_words(command), "-in", _SCRIPT, "-log", START_LOG]
    with (folder / _SCREEN).open("ab") as screen:
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=screen,
            stderr=subprocess.STDOUT,
            env=DEEPMD_ENVIRONMENT | os.environ,
        )
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started: `lmp` of the Python wheel is a wrapper."""
    import psutil

    if process.poll() is not None:
        return
    children = psutil.Process(process.pid).children(recursive=True)
    for member in (*children, process):
        with suppress(psutil.NoSuchProcess):
            member.terminate()
    # Popen reaps its own process: if psutil did, the exit status would be lost.
    for child in psutil.wait_procs(children, timeout=ENDING_SECONDS)[1]:
        child.kill()
    if not _ended(process, ENDING_SECONDS):
        process.kill()
        process.wait()


def _watch(
    process: subprocess.Popen[bytes],
    plan: Sequence[Leg],
    settings: LammpsSettings,
    folder: Path,
) -> str:
    """Wait for LAMMPS, asking exploded trajectories to halt.

    Returns
    -------
    str
        Why LAMMPS has to be ended, or nothing if it ended by itself.
    """
    progress, since = None, time.monotonic()
    while not _ended(process, POLL_SECONDS):
        begun = started(plan, folder)
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


def _ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout)
    return process.returncode is not None


def _last_words(plan: Sequence[Leg], folder: Path, status: int) -> str:
    logs = [folder / START_LOG, *(log_of(leg, folder) for leg in plan)]
    written = [log for log in logs if log.exists()]
    text = log_text(written[-1]) if written else ""
    error = re.search(r"^ERROR[^:]*: (.*?)(?: \(\S+:\d+\))?$", text, re.MULTILINE)
    if error:
        return f"LAMMPS reports: {error[1]}"
    said = last_words(log_text(folder / _SCREEN))
    return f"LAMMPS {status_words(status)}{f'; it said: {said}' if said else ''}"
