"""What a folder of trajectories holds: which are over, and from where the others continue.

A trajectory leaves the file ``<name>.over`` when it has ended, finished or halted; if LAMMPS
crashed, it says why. A trajectory without this file continues from its newest restart file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.codes.lammps.settings import LammpsSettings


@dataclass(frozen=True)
class Leg:
    """A part of a trajectory, between two restart files.

    Every leg begins by reading all that it needs, so that a trajectory is the same to the last
    bit whether one process runs all of its legs or several do.

    Parameters
    ----------
    trajectory
        Stem of the trajectory's file names.
    number
        Number of the leg, from 0 on.
    first, last
        MD steps between which it runs.
    is_final
        Whether the trajectory ends with it.
    """

    trajectory: str
    number: int
    first: int
    last: int
    is_final: bool

    @property
    def name(self) -> str:
        """Stem of the leg's file names."""
        return self.stem(self.number)

    def stem(self, number: int) -> str:
        """Return the stem of the file names of any leg of the trajectory."""
        return f"{self.trajectory}.{number}" if number else self.trajectory

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the files that it writes."""
        return tuple(f"{self.name}.{kind}" for kind in ("dump", "deviation", "temperature", "log"))

    @property
    def restart(self) -> str:
        """Name of the restart file that it begins with."""
        return f"{self.name}.restart"

    @property
    def next_restart(self) -> str:
        """Name of the restart file that it leaves."""
        return f"{self.stem(self.number + 1)}.restart"


def legs(task: TrajectoryTask, settings: LammpsSettings) -> list[Leg]:
    """Divide a trajectory into legs that end where a frame is kept.

    Parameters
    ----------
    task
        The trajectory.
    settings
        How many steps a leg has at least.
    """
    length = settings.leg_steps(task.dump_every)
    bounds = [*range(0, task.steps, length), task.steps]
    return [
        Leg(task.name, number, first, last, last == task.steps)
        for number, (first, last) in enumerate(pairwise(bounds))
    ]


def end_mark(trajectory: str, folder: Path) -> Path:
    """Return the file that is there when a trajectory has ended, with the cause of a crash in it.

    Parameters
    ----------
    trajectory
        Stem of its file names.
    folder
        Working folder of LAMMPS.
    """
    return folder / f"{trajectory}.over"


def legs_to_run(task: TrajectoryTask, settings: LammpsSettings, folder: Path) -> list[Leg]:
    """Return the legs from the newest restart file on; files that they left are removed.

    Parameters
    ----------
    task
        The trajectory.
    settings
        How many steps a leg has at least.
    folder
        Working folder of LAMMPS.
    """
    whole = legs(task, settings)
    begun = max(leg.number for leg in whole if not leg.number or (folder / leg.restart).exists())
    left = whole[begun:]
    names = [name for leg in left for name in leg.outputs]
    for name in (*names, f"{task.name}.stop", f"{task.name}.partial"):
        (folder / name).unlink(missing_ok=True)
    return left


def started(plan: Sequence[Leg], folder: Path) -> list[Leg]:
    """Return the legs that have begun.

    Parameters
    ----------
    plan
        Legs in their order.
    folder
        Working folder of LAMMPS.
    """
    return [leg for leg in plan if log_of(leg, folder).exists()]


def log_of(leg: Leg, folder: Path) -> Path:
    """Return LAMMPS' log of a leg.

    Parameters
    ----------
    leg
        The leg.
    folder
        Working folder of LAMMPS.
    """
    return folder / f"{leg.name}.log"


def seconds_of(trajectory: str, folder: Path) -> float:
    """Return the wall time in s that a trajectory took, without legs that were lost.

    Parameters
    ----------
    trajectory
        Stem of its file names.
    folder
        Working folder of LAMMPS.
    """
    return sum(map(float, whole_lines(_seconds(trajectory, folder))))


def add_seconds(trajectory: str, folder: Path, amount: float) -> None:
    """Add to the wall time of a trajectory, in s.

    Parameters
    ----------
    trajectory
        Stem of its file names.
    folder
        Working folder of LAMMPS.
    amount
        What to add, in s.
    """
    with _seconds(trajectory, folder).open("a") as file:
        file.write(f"{max(amount, 0.0)}\n")


def _seconds(trajectory: str, folder: Path) -> Path:
    return folder / f"{trajectory}.seconds"


def whole_lines(path: Path) -> list[str]:
    """Return the lines of a file without an unfinished last one; none if it does not exist."""
    return path.read_text().split("\n")[:-1] if path.exists() else []
