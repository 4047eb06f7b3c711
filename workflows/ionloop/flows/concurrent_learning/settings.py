"""What the loop consists of: its roles and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from jobflow import Job
from pydantic import Field, NonNegativeInt

from ionloop.codes.common.acceptance import AcceptanceLimits
from ionloop.codes.common.dynamics import AboveZero, DynamicsSettings, MolecularDynamics
from ionloop.flows.concurrent_learning.decision import Convergence, Limits, labels_left
from ionloop.flows.concurrent_learning.validation import Validation
from ionloop.jobs.explore.lammps import LammpsExploreMaker
from ionloop.jobs.label.accounts import join_late_labels
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.placement import PRODUCTION, Role, assign
from ionloop.jobs.roles import ExploreMaker, FrozenMaker, LabelMaker, SelectMaker, TrainMaker
from ionloop.jobs.select import WindowSelectMaker
from ionloop.jobs.tolerances import in_force
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.schemas.document import Model
from ionloop.schemas.exploration import Stage
from ionloop.schemas.iteration import StageProgress
from ionloop.schemas.selection import TrustWindow
from ionloop.schemas.units import Length

STAGES = (Stage(temperatures=[300.0, 600.0, 900.0], steps=2000),)

TRUST = TrustWindow(low=0.12, high=0.25)
"""Default stages and trust levels: those of Huang et al. (2021) for LGPS."""


class ExistingData(Model):
    """Labelled data that are there already."""

    path: str
    """file or folder, in any format that dpdata or ASE reads"""
    format: str | None = None
    """dpdata's name of the format; guessed if absent"""
    type_map: list[str] | None = None
    """symbols of the types, where the format has numbers only"""
    same_level: bool = False
    """the data were calculated at the labeller's own level of theory"""
    level: str | None = None
    """their level of theory in words, where it is another (allow_mixed)"""
    check_units: bool = True
    """refuse numbers that look like Bohr, Hartree or kcal/mol instead of Å, eV and eV/Å"""

    def limits(self, limits: AcceptanceLimits) -> AcceptanceLimits:
        """Return the labeller's limits as far as they hold for these data.

        Energies of another level of theory have another zero.
        """
        return limits if self.same_level else limits.model_copy(update={"energy_window": None})


class InitialDynamics(DynamicsSettings):
    """Molecular dynamics by the labeller: one run per temperature and start structure."""

    temperatures: list[AboveZero] = Field(min_length=1)
    """temperatures in K"""

    @property
    def runs(self) -> list[MolecularDynamics]:
        """The runs of one start structure."""
        shared = self.model_dump(exclude={"temperatures"})
        return [MolecularDynamics(temperature=t, **shared) for t in self.temperatures]


class InitialData(Model):
    """Where the first training set comes from."""

    n_perturbed: NonNegativeInt = Field(60, le=1_000_000)
    """perturbed frames per start structure that are labelled first"""
    displacement: Length = Field(0.1, ge=0)
    """largest displacement of an atom"""
    strain: float = Field(0.03, ge=0, le=0.3)
    """largest relative strain of the cell"""
    relax: bool = False
    """relax the start structures with the labeller first"""
    aimd: list[InitialDynamics] = Field([])
    """molecular dynamics by the labeller from the start structures, whose kept steps are labels"""
    data: list[ExistingData] = Field([])
    """labelled data"""
    allow_mixed: bool = False
    """whether data of another level of theory than the labeller's may be trained on too; every
    report then says so"""


@dataclass
class Loop(FrozenMaker):
    """The roles and settings of the loop, which every turn needs; see `ConcurrentLearningMaker`."""

    label: LabelMaker = field(default_factory=ForceFieldLabelMaker)
    train: TrainMaker = field(default_factory=DeepmdTrainMaker)
    explore: ExploreMaker = field(default_factory=LammpsExploreMaker)
    select: SelectMaker = field(default_factory=WindowSelectMaker)
    production: TrainMaker | None = None
    stages: list[Stage] = field(default_factory=lambda: list(STAGES))
    trust: TrustWindow = TRUST
    initial: InitialData = field(default_factory=InitialData)
    convergence: Convergence = field(default_factory=Convergence)
    limits: Limits = field(default_factory=Limits)
    validation: Validation = field(default_factory=Validation)
    warm_production: bool = True
    seed: int = 1
    name: str = "concurrent learning"

    def in_force(self) -> Self:
        """Return the loop with the tolerances of the current job's run as they are now."""
        return replace(
            self,
            label=in_force(self.label, "label"),
            train=in_force(self.train, "train"),
            explore=in_force(self.explore, "explore"),
            production=in_force(self.production, PRODUCTION),
            limits=in_force(self.limits, "limits"),
        )

    def max_labels(self, progress: StageProgress) -> int:
        """Return how many labels the next turn may ask for."""
        asked = self.stages[progress.stage].max_labels or self.select.max_labels
        left = labels_left(progress.n_labels, self.limits, self.validation.n_labels)
        return asked if left is None else min(asked, left)

    def join_late(self, late: Sequence[str], after: Any = None) -> Job:
        """Return the job that collects labels that were late.

        Parameters
        ----------
        late
            Ids of their frames.
        after
            Reference to the output of a job that has to run before, if any.
        """
        join = join_late_labels(self.label.level, list(late), after, limits=self.label.terms.limits)
        return assign(join, Role.LABEL, "join late labels", bookkeeping=True)
