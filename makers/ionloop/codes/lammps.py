"""Molecular dynamics with an ensemble of DeePMD models in LAMMPS, many trajectories a process."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ionloop.codes import lammps_folder
from ionloop.codes.errors import cure_for
from ionloop.codes.lammps_files import (
    Ensemble,
    LammpsSettings,
    Leg,
    TrajectoryTask,
    data_file,
    input_script,
    legs,
    read_last_row,
)
from ionloop.codes.lammps_folder import end, is_over, legs_to_run, log_of, started
from ionloop.codes.leftovers import clear_unless_same
from ionloop.codes.program import (
    DEEPMD_ENVIRONMENT,
    PROBE_SECONDS,
    Answer,
    ProgramError,
    ask,
    last_words,
    log_text,
    status_words,
)
from ionloop.codes.side_by_side import side_by_side
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.potential import StoredFile

__all__ = [
    "Ensemble",
    "LammpsError",
    "LammpsSettings",
    "Trajectory",
    "TrajectoryTask",
    "check_models",
    "program_version",
    "run_trajectories",
    "version_of_run",
]

POLL_SECONDS = 0.5
_STEP, _V, _F = 0, 1, 4  # columns of a deviation file: step, max_devi_v, max_devi_f
ENDING_SECONDS = 5.0
GRACE_SECONDS = 10.0  # for LAMMPS to reach the next dump and halt by itself
_SCRIPT = "in.lammps"
_START_LOG = "start.log"
_SCREEN = "screen.txt"
_ASKED_TO_END = {-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT}
_PROBES = ("first", "second")


class LammpsError(IonloopError, RuntimeError):
    """LAMMPS is absent, cannot run DeePMD models, or refused its input."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The valid part of a trajectory.

    Parameters
    ----------
    task
        What was asked.
    frames
        Valid frames from step 0 on, in the start's atom order, orientation and lattice setting,
        unwrapped and on the grid of the frame ids.
    steps
        MD step of every frame, (f,).
    max_devi_f
        Maximum force deviation in eV/Å, (f,).
    max_devi_v
        Maximum deviation of the virial per atom in eV/atom, (f,), of the components along LAMMPS'
        own axes: for a start cell that is not lower triangular they are not the frames' axes.
    temperatures
        Instantaneous temperature in K, (f,).
    finished
        Whether every frame that was asked for is there.
    stop_reason
        A sentence, if not.
    seconds
        Wall time in s; the first trajectory of a process carries the start-up. What a lost worker
        did in vain does not count.
    """

    task: TrajectoryTask
    frames: Frames
    steps: Array
    max_devi_f: Array
    max_devi_v: Array
    temperatures: Array
    finished: bool
    stop_reason: str
    seconds: float


def program_version(command: str) -> str:
    """Return LAMMPS' version after making sure that it runs DeePMD models (takes seconds).

    Raises
    ------
    LammpsError
        If the command is absent, fails, or has no ``pair_style deepmd``.
    """
    answer = _ask(command, "info styles pair\n")
    version = _version(answer.text)
    if version is None:
        said = answer.last_words or "nothing"
        raise LammpsError(
            f"explore.command: {command!r} did not start LAMMPS: it {answer.words} and said: {said}"
        )
    if "deepmd" not in answer.text.split():
        raise LammpsError(
            f"explore.command: {command!r} has no pair_style deepmd; "
            "install one that has: pip install 'ionloop[deepmd]'"
        )
    return version


def check_models(command: str, suffix: str) -> None:
    """Check that LAMMPS loads models of a kind (takes seconds).

    The part of DeePMD-kit's plugin that belongs to a backend is loaded with the first model, and
    only where it fits the installed PyTorch or TensorFlow.

    Parameters
    ----------
    command
        The command that runs LAMMPS.
    suffix
        Of the model files: ``.pb`` or ``.pth``.

    Raises
    ------
    LammpsError
        If it does not.
    """
    with TemporaryDirectory() as name:
        for model in _PROBES:
            (Path(name) / f"{model}{suffix}").touch()
        styles = " ".join(f"{model}{suffix}" for model in _PROBES)
        question = f"units metal\npair_style deepmd {styles} out_freq 1 out_file devi\n"
        text = _ask(command, question, Path(name)).text
    if found := re.search(r"Unable to load (\w+) backend plugin.*?(?=\n\S|\Z)", text, re.S):
        why = f"; {found[0].splitlines()[-1].strip()[-200:]}"
        raise LammpsError(
            f"explore.command: {command!r} does not load {found[1]} models ({suffix}): "
            f"{_cure_of_backend(found[1])}{why}"
        )


def _ask(command: str, question: str, folder: Path | None = None) -> Answer:
    arguments = [*_arguments(command), "-log", "none"]
    try:
        return ask(arguments, question, folder=folder, seconds=PROBE_SECONDS)
    except ProgramError as error:
        raise LammpsError(f"explore.command: {error}") from None


def _cure_of_backend(backend: str) -> str:
    if backend != "PyTorch" or find_spec("deepmd") is None or find_spec("torch") is None:
        return "install DeePMD-kit's plugin with that backend, or set train.backend to another"
    from deepmd.env import GLOBAL_CONFIG

    return (
        f"its plugin was built for PyTorch {GLOBAL_CONFIG['pt_version']}, and {version('torch')} "
        f"is installed; install torch=={GLOBAL_CONFIG['pt_version']}, or set train.backend to "
        "tensorflow"
    )


def version_of_run(folder: Path) -> str:
    """Return the version of the LAMMPS that ran in a folder, from its log.

    Raises
    ------
    LammpsError
        If no LAMMPS ran there.
    """
    log = next(iter(sorted(folder.rglob(_START_LOG))), folder / _START_LOG)
    version = _version(log.read_text()) if log.exists() else None
    if version is None:
        raise LammpsError(f"{log} does not say which LAMMPS ran; has one run there?")
    return version


def _version(text: str) -> str | None:
    found = re.search(r"LAMMPS \((.+)\)", text)
    return found[1] if found else None


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
    _arguments(settings.command)
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
    return [_read_trajectory(task, settings, folder) for task in tasks]


def _check(tasks: Sequence[TrajectoryTask], models: Sequence[StoredFile]) -> None:
    if len(models) < 2:
        raise ValueError(f"a model deviation needs two models or more, got {len(models)}")
    if len({task.index for task in tasks}) < len(tasks):
        raise ValueError("two trajectories have the same index, which names their files")
    for task in tasks:
        if len(task.start) != 1:
            raise ValueError(f"trajectory {task.index} starts from {len(task.start)} frames, not 1")


def _arguments(command: str) -> list[str]:
    arguments = shlex.split(command)
    if not arguments or shutil.which(arguments[0]) is None:
        raise LammpsError(
            f"explore.command: {command!r} was not found on PATH; "
            f"{cure_for(arguments[0] if arguments else '', 'deepmd')}, or name your own LAMMPS"
        )
    return arguments


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
    arguments = [*_arguments(command), "-in", _SCRIPT, "-log", _START_LOG]
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
        if row is not None and not row[_F] <= settings.stop_max_devi_f:
            (folder / f"{begun[-1].trajectory}.stop").touch()
            patience = GRACE_SECONDS
        current = (len(begun), None if row is None else row[_STEP])
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
    logs = [folder / _START_LOG, *(log_of(leg, folder) for leg in plan)]
    written = [log for log in logs if log.exists()]
    text = log_text(written[-1]) if written else ""
    error = re.search(r"^ERROR[^:]*: (.*?)(?: \(\S+:\d+\))?$", text, re.MULTILINE)
    if error:
        return f"LAMMPS reports: {error[1]}"
    said = last_words(log_text(folder / _SCREEN))
    return f"LAMMPS {status_words(status)}{f'; it said: {said}' if said else ''}"


def _read_trajectory(task: TrajectoryTask, settings: LammpsSettings, folder: Path) -> Trajectory:
    dumped, frames, deviations, thermometer = lammps_folder.read_legs(task, settings, folder)
    n = _common_prefix(dumped, deviations[:, _STEP], thermometer[:, 0])
    max_devi_f, max_devi_v = deviations[:n, _F], deviations[:n, _V]
    temperatures = thermometer[:n, 1]
    valid, fault = _valid_prefix(frames[:n], max_devi_f, max_devi_v, temperatures, task, settings)
    finished = valid == task.n_frames
    return Trajectory(
        task=task,
        frames=frames[:valid].snapped().of_group(task.group),
        steps=dumped[:valid],
        max_devi_f=max_devi_f[:valid],
        max_devi_v=max_devi_v[:valid],
        temperatures=temperatures[:valid],
        finished=finished,
        stop_reason="" if finished else fault or _stop_reason(task, settings, folder),
        seconds=lammps_folder.seconds(task.name, folder),
    )


def _common_prefix(*steps: Array) -> int:
    shortest = min(len(column) for column in steps)
    agree = np.all([column[:shortest] == steps[0][:shortest] for column in steps], axis=0)
    return int(np.cumprod(agree).sum())


def _valid_prefix(
    frames: Frames,
    max_devi_f: Array,
    max_devi_v: Array,
    temperatures: Array,
    task: TrajectoryTask,
    settings: LammpsSettings,
) -> tuple[int, str]:
    """Return the number of frames before the first bad one, and what is bad about it."""
    hottest, distance = settings.hottest(task.temperature), settings.stop_distance
    steps = np.arange(len(temperatures)) * task.dump_every
    steady = temperatures - task.heat_at(steps, settings.thermostat_damping)
    coordinates = np.concatenate([frames.positions, frames.cells], axis=1)
    faults = [
        ("the model deviation is not finite", ~np.isfinite(max_devi_f + max_devi_v)),
        ("positions or cell are not finite", ~np.isfinite(coordinates).all(axis=(1, 2))),
        (
            f"max_devi_f exceeds {settings.stop_max_devi_f:g} eV/Å",
            ~(max_devi_f <= settings.stop_max_devi_f),
        ),
        (f"the temperature exceeds {hottest:g} K", ~(steady <= hottest)),
    ]
    firsts = [(_first(bad), fault) for fault, bad in faults]
    valid, fault = min(firsts, key=lambda first: first[0])
    collapsed = _first_collapsed(frames[:valid], distance)
    if collapsed < valid:
        valid, fault = collapsed, f"two atoms are closer than {distance:g} Å"
    return valid, f"{fault} at step {valid * task.dump_every}" if valid < len(frames) else ""


def _first(bad: Array) -> int:
    return int(np.argmax(bad)) if bad.any() else len(bad)


def _first_collapsed(frames: Frames, distance: float) -> int:
    shapes = zip(frames.cells, frames.positions, strict=True)
    collapsed = (i for i, (cell, atoms) in enumerate(shapes) if _collapsed(cell, atoms, distance))
    return next(collapsed, len(frames))


def _collapsed(cell: Array, positions: Array, distance: float) -> bool:
    """Tell whether two atoms, or an atom and its image, are closer than `distance` in Å."""
    from ase.neighborlist import primitive_neighbor_list

    # No packing is closer than fcc; and the neighbour list of a vanishing cell has no end.
    closest_volume = len(positions) * distance**3 / np.sqrt(2)
    volume = abs(cell[0] @ np.cross(cell[1], cell[2]))
    if volume < closest_volume:
        return True
    periodic = (True, True, True)
    pairs = primitive_neighbor_list("d", periodic, cell, positions, distance)  # type: ignore[no-untyped-call]
    return len(pairs) > 0


def _stop_reason(task: TrajectoryTask, settings: LammpsSettings, folder: Path) -> str:
    logs = [log_of(leg, folder) for leg in started(legs(task, settings), folder)]
    text = logs[-1].read_text() if logs else ""
    if halt := re.search(r"halt condition for fix-id hot met on step (\d+)", text):
        return f"the temperature exceeds {settings.hottest(task.temperature):g} K at step {halt[1]}"
    death = lammps_folder.death_of(task.name, folder)
    return death or f"frames are missing from {folder}; is its disk full?"
