"""A trajectory that is under way: where it is, what it has recorded, and its restart files.

A trajectory is divided into legs. At the end of each it writes ``<name>.<leg>.npz`` with the frames
of the leg, and all that the next one begins with: positions, velocities, cell, strain rate, forces,
virial, and the state of the random numbers. A file appears when it is whole.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ionloop.codes.ase.ensemble import Outcome, wrapped
from ionloop.codes.ase.integrator import Integrator, Motion
from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.md import MdSettings, valid_prefix
from ionloop.codes.common.trajectory import Trajectory, TrajectoryTask
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array

if TYPE_CHECKING:
    from ase import Atoms

RECORDED = ("step", "positions", "cell", "max_devi_f", "max_devi_v", "temperature")
_MOTION = ("positions", "velocities", "cell", "strain_rate", "forces", "virial")


@dataclass(eq=False)
class Walker:
    """A trajectory that is under way.

    Parameters
    ----------
    task, settings, folder
        What was asked for, how it is run, and where its files are.
    integrator, motion, random
        Its equations of motion, where it is, and its random numbers.
    atoms
        Its configuration, for the models.
    driver
        Number of the model whose forces move the atoms.
    step
        MD step; below zero before the forces of the start are known.
    leg
        Number of the leg.
    ended, cause
        Whether it is over, and why, if it stopped early.
    together
        Trajectories that share the time that passes.
    """

    task: TrajectoryTask
    settings: MdSettings
    folder: Path
    integrator: Integrator
    motion: Motion
    random: np.random.Generator
    atoms: Atoms
    driver: int
    step: int = -1
    leg: int = 0
    ended: bool = False
    cause: str = ""
    together: int = 1
    _frames: list[dict[str, Any]] = field(default_factory=list)
    _since: float | None = None

    @classmethod
    def of(cls, task: TrajectoryTask, settings: MdSettings, folder: Path, n_models: int) -> Self:
        """Take a trajectory up where its newest restart file left it, or begin it.

        Parameters
        ----------
        task, settings, folder
            As for the class.
        n_models
            Models of the ensemble, of which `task` says which one drives.
        """
        from ase import Atoms

        start = task.start
        integrator, random = Integrator.of(task, settings), np.random.default_rng(task.seed)
        motion = integrator.start(start.positions[0], start.cells[0], random)
        atoms = Atoms(list(start.symbols), start.positions[0], cell=start.cells[0], pbc=True)
        driver = task.driver % n_models
        walker = cls(task, settings, folder, integrator, motion, random, atoms, driver)
        walker._continue()
        walker.place()
        return walker

    @property
    def keeps_frame(self) -> bool:
        """Whether the frame of this step is kept."""
        return self.step % self.task.dump_every == 0 and not self.ended

    def advance(self) -> None:
        """Move the atoms to where the forces of the next step are needed."""
        self._since = self._since or time.monotonic()
        if self.step >= 0:
            self.integrator.before_forces(self.motion, self.random)
        self._check_place()
        if not self.ended:
            self.place()

    def place(self) -> None:
        """Move the configuration that models see to where the atoms are."""
        self.atoms.cell[:] = self.motion.cell
        self.atoms.positions[:] = wrapped(self.motion.positions, self.motion.cell)

    def accept(self, outcome: Outcome) -> None:
        """End the step with what the driving model says.

        Parameters
        ----------
        outcome
            What it says of the configuration.

        Raises
        ------
        InputError
            If there is a barostat and the model has no stress.
        """
        if not isinstance(outcome, Calculated):
            self.halt(said(outcome))
            return
        if outcome.virial is None and self.integrator.moves_cell:
            raise InputError(
                f"ensemble: {self.task.ensemble} needs stresses, which this potential does not "
                "have; explore with nvt, or with another potential"
            )
        self.motion.forces = outcome.forces
        self.motion.virial = np.zeros((3, 3)) if outcome.virial is None else outcome.virial
        self.step += 1
        if self.step:
            self.integrator.after_forces(self.motion)
        self._check_heat()

    def keep(self, max_devi_f: float, max_devi_v: float) -> None:
        """Keep the frame of this step, and end the leg or the trajectory where it is due.

        Parameters
        ----------
        max_devi_f, max_devi_v
            Its deviations in eV/Å and eV/atom.
        """
        now = self.motion
        temperature = self.integrator.temperature(now.velocities)
        values = (self.step, now.positions, now.cell, max_devi_f, max_devi_v, temperature)
        self._frames.append(dict(zip(RECORDED, map(np.array, values), strict=True)))
        with (self.folder / f"{self.task.name}.temperature").open("a") as table:
            table.write(f"{self.step} {temperature:.6g}\n")
        place = Frames(self.task.start.symbols, now.positions[None], now.cell[None])
        devi_f, devi_v = np.array([max_devi_f]), np.array([max_devi_v])
        steady = np.array([temperature - self._heat])
        task = self.task.model_copy(update={"heat": 0.0})
        _, fault = valid_prefix(place, devi_f, devi_v, steady, task, self.settings)
        if fault or self.step == self.task.last_step:
            self.halt("")
        elif self.step and self.step % self.settings.leg_steps(self.task.dump_every) == 0:
            self._save()

    def halt(self, cause: str) -> None:
        """End the trajectory.

        Parameters
        ----------
        cause
            Why, if the frames do not tell.
        """
        self.ended, self.cause = True, cause
        self._save()
        (self.folder / f"{self.task.name}.over").write_text(cause)

    @property
    def _heat(self) -> float:
        """What is left of the heat of the perturbation in K."""
        damping = self.settings.thermostat_damping
        return float(self.task.heat_at(np.array(max(self.step, 0)), damping))

    def _check_place(self) -> None:
        now, distance = self.motion, self.settings.stop_distance
        sound = np.isfinite(now.positions).all() and np.isfinite(now.cell).all()
        if not sound:
            self.halt(f"positions or cell are not finite at step {self.step + 1}")
        # No packing is closer than fcc, and a neighbour search in a vanishing cell has no end.
        elif now.volume < len(now.positions) * distance**3 / np.sqrt(2):
            self.halt(f"two atoms are closer than {distance:g} Å at step {self.step + 1}")

    def _check_heat(self) -> None:
        temperature = self.integrator.temperature(self.motion.velocities) - self._heat
        hottest = self.settings.hottest(self.task.temperature)
        if not temperature <= hottest and not self.keeps_frame:
            self.halt(f"the temperature exceeds {hottest:g} K at step {self.step}")

    def _save(self) -> None:
        """Write the file of this leg, from which the next can begin, and begin that."""
        now = time.monotonic()
        recorded = {
            f"frames_{name}": np.array([frame[name] for frame in self._frames]) for name in RECORDED
        }
        state: dict[str, Any] = {
            "step": self.step,
            "random": json.dumps(self.random.bit_generator.state),
            "seconds": (now - (self._since or now)) / self.together,
            "ended": self.ended,
            "cause": self.cause,
        }
        motion = {f"motion_{name}": getattr(self.motion, name) for name in _MOTION}
        path = leg_file(self.task, self.leg, self.folder)
        partial = path.with_name(f"{path.stem}.partial")
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **recorded, **state, **motion)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        self.leg, self._frames, self._since = self.leg + 1, [], now

    def _continue(self) -> None:
        while leg_file(self.task, self.leg, self.folder).exists():
            self.leg += 1
        if not self.leg:
            (self.folder / f"{self.task.name}.temperature").unlink(missing_ok=True)
            return
        with np.load(leg_file(self.task, self.leg - 1, self.folder)) as state:
            self.step = int(state["step"])
            self.random.bit_generator.state = json.loads(str(state["random"]))
            self.ended, self.cause = bool(state["ended"]), str(state["cause"])
            for name in _MOTION:
                setattr(self.motion, name, state[f"motion_{name}"])
        if self.ended:  # killed before it was marked as over
            (self.folder / f"{self.task.name}.over").write_text(self.cause)


def leg_file(task: TrajectoryTask, leg: int, folder: Path) -> Path:
    """Return the file of one leg of a trajectory.

    Parameters
    ----------
    task
        The trajectory.
    leg
        Number of the leg.
    folder
        Where its files are.
    """
    return folder / f"{task.name}.{leg}.npz"


def said(problem: Exception) -> str:
    """Return the reason for which a trajectory ends whose calculation failed."""
    words = str(problem).strip().splitlines() or [""]
    return f"the potential failed with {type(problem).__name__}: {words[-1][:200]}"


def read_trajectory(task: TrajectoryTask, settings: MdSettings, folder: Path) -> Trajectory:
    """Read the valid part of a trajectory that is over.

    Parameters
    ----------
    task
        What was asked for.
    settings
        When a trajectory counts as exploded.
    folder
        Where its files are.
    """
    recorded, seconds, cause = _read_legs(task, folder)
    _, positions, cells, max_devi_f, max_devi_v, temperatures = recorded
    frames = Frames(task.start.symbols, positions, cells)
    n, fault = valid_prefix(frames, max_devi_f, max_devi_v, temperatures, task, settings)
    finished = n == task.n_frames
    return Trajectory(
        task=task,
        frames=frames[:n].snapped().of_group(task.group),
        steps=recorded[0][:n].astype(int),
        max_devi_f=max_devi_f[:n],
        max_devi_v=max_devi_v[:n],
        temperatures=temperatures[:n],
        finished=finished,
        stop_reason="" if finished else fault or cause,
        seconds=seconds,
    )


def _read_legs(task: TrajectoryTask, folder: Path) -> tuple[list[Array], float, str]:
    """Return what was recorded, in the order of `RECORDED`, seconds, and why it ended."""
    n = task.start.n_atoms
    shapes = {"positions": (-1, n, 3), "cell": (-1, 3, 3)}
    columns: dict[str, list[Array]] = {name: [] for name in RECORDED}
    seconds, cause, leg = 0.0, "", 0
    while (path := leg_file(task, leg, folder)).exists():
        with np.load(path) as state:
            for name, parts in columns.items():
                parts.append(state[f"frames_{name}"].reshape(shapes.get(name, -1)))
            seconds, cause = seconds + float(state["seconds"]), str(state["cause"])
        leg += 1
    return [np.concatenate(parts) for parts in columns.values()], seconds, cause
