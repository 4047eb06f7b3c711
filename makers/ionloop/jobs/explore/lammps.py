"""Exploration with LAMMPS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ionloop.codes import lammps
from ionloop.codes.common.trajectory import Trajectory, TrajectoryTask
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.jobs.explore.dynamics import (
    MdExploreMaker,
    explore_trajectories,
    spread_trajectories,
)
from ionloop.schemas.potential import EnsembleDoc

__all__ = ["LammpsExploreMaker", "explore_with_lammps", "spread_trajectories"]

explore_with_lammps = explore_trajectories
"""Jobs that earlier versions stored call it so, and find `spread_trajectories` here."""


@dataclass
class LammpsExploreMaker(MdExploreMaker):
    """Explores with LAMMPS molecular dynamics.

    Parameters
    ----------
    settings
        Thermostat, barostat, and when a trajectory counts as exploded.
    type_map, limits, perturbation, max_candidates, floor
        As for `MdExploreMaker`.
    batch_size
        Trajectories per job; those of one process share a start-up of LAMMPS.
    cores
        Cores of one LAMMPS process.
    per_gpu
        LAMMPS processes that one job runs at the same time; they share its trajectories and GPU.

    Examples
    --------
    >>> maker = LammpsExploreMaker(type_map=["Li", "S"], batch_size=4)
    >>> sorted(maker.drives)
    ['deepmd']
    >>> from ionloop.schemas.exploration import Stage
    >>> from ionloop.schemas.selection import TrustWindow
    >>> stage = Stage(temperatures=[300, 600], steps=2000)
    >>> window = TrustWindow(low=0.12, high=0.25)
    >>> flow = maker.make(ensemble=None, stage=stage, structures=[], trust=window)
    >>> [job.name for job in flow.jobs]
    ['spread trajectories']
    """

    drives: ClassVar[frozenset[str]] = frozenset(lammps.PAIR_STYLES)

    settings: LammpsSettings = field(default_factory=LammpsSettings)
    batch_size: int = 8
    cores: int = 1
    per_gpu: int = 1

    @property
    def job_cores(self) -> int:
        """Cores of one job."""
        return self.cores * self.per_gpu

    @property
    def trajectory_cores(self) -> int:
        """Cores that one trajectory has for itself."""
        return self.cores

    @property
    def trajectories_per_job(self) -> int:
        """Trajectories that one job runs."""
        return self.batch_size

    def run(
        self, tasks: Sequence[TrajectoryTask], ensemble: EnsembleDoc, folder: Path
    ) -> tuple[list[Trajectory], Mapping[str, str]]:
        """Run trajectories in LAMMPS; see `MdExploreMaker.run`.

        Parameters
        ----------
        tasks, ensemble, folder
            As for `MdExploreMaker.run`.
        """
        models = [member.model for member in ensemble.members]
        trajectories = lammps.run_trajectories(
            tasks, models, self.type_map, self.settings, folder, self.per_gpu, ensemble.kind
        )
        return trajectories, {"lammps": lammps.version_of_run(folder)}
