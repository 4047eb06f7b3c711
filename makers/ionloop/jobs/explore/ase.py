"""Exploration with any potential that has an ASE calculator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from ionloop.codes import ase, potentials
from ionloop.codes.ase.settings import AseSettings
from ionloop.codes.common.trajectory import Trajectory, TrajectoryTask
from ionloop.jobs.explore.dynamics import MdExploreMaker
from ionloop.schemas.potential import EnsembleDoc

BATCH = 16
"""Trajectories that advance together where nothing else is said."""


@dataclass
class AseExploreMaker(MdExploreMaker):
    """Explores with molecular dynamics in the process of the job, by ASE calculators.

    Parameters
    ----------
    settings
        Device, thermostat, barostat, and when a trajectory counts as exploded.
    type_map, limits, perturbation, max_candidates, floor
        As for `MdExploreMaker`.
    batch_size
        Trajectories per job, on a GPU those of a batch. None: 1 on the CPU, where each takes long
        and may have a core for itself; 16 on a GPU, or where batches are asked for.

    Examples
    --------
    >>> maker = AseExploreMaker(batch_size=2)
    >>> maker.check_kind("sevennet")  # one of those with an ASE calculator
    >>> maker.check_kind("my_module:my_calculator")  # a kind of your own
    """

    drives: ClassVar[frozenset[str]] = frozenset(potentials.CALCULATORS)

    settings: AseSettings = field(default_factory=AseSettings)
    batch_size: int | None = None

    @property
    def trajectories_per_job(self) -> int:
        """Trajectories that one job runs, one after another or as a batch."""
        together = self.settings.device != "cpu" or self.settings.batched == "always"
        return self.batch_size or (BATCH if together else 1)

    def check_kind(self, kind: str) -> None:
        """Check that the kind has an ASE calculator; an import path may name any.

        Raises
        ------
        InputError
            If it has none.
        """
        if ":" not in kind:
            super().check_kind(kind)

    def run(
        self, tasks: Sequence[TrajectoryTask], ensemble: EnsembleDoc, folder: Path
    ) -> tuple[list[Trajectory], Mapping[str, str]]:
        """Run trajectories in this process; see `MdExploreMaker.run`.

        Parameters
        ----------
        tasks, ensemble, folder
            As for `MdExploreMaker.run`.
        """
        models = [member.model for member in ensemble.members]
        found = ase.run_trajectories(tasks, models, self.settings, folder, ensemble.kind)
        return found, {"ase": version("ase")}
