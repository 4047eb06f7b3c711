"""The four roles of the loop, one base class of Makers each.

To swap a code, pass another Maker; the loop does not change. A Maker holds settings only: data
passes as arguments, and a Maker never changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any, ClassVar

from jobflow import Flow, Job, Maker

from ionloop.codes.common.acceptance import Terms
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.schemas.errors import InputError, IonloopError
from ionloop.schemas.exploration import Stage
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.selection import TrustWindow

Reference = Any  # a value now or, in a flow under construction, an OutputReference to it


class FloorError(IonloopError, RuntimeError):
    """Too much of a step failed for the turn to go on."""


@dataclass
class FrozenMaker(Maker):
    """Base class of the Makers: a field that has its value keeps it.

    To change a setting, make a new Maker with `dataclasses.replace`. Python refuses
    ``@dataclass(frozen=True)`` here, because jobflow's Maker is not frozen.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field for the first time.

        Raises
        ------
        FrozenInstanceError
            If it has a value already.
        """
        if name in vars(self):
            raise FrozenInstanceError(f"cannot assign to field {name!r}; use dataclasses.replace")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        """Refuse.

        Raises
        ------
        FrozenInstanceError
            Always.
        """
        raise FrozenInstanceError(f"cannot delete field {name!r}")


@dataclass
class LabelMaker(FrozenMaker, ABC):
    """Buys labels: energies, forces and virials of frames."""

    name: str = "label"

    @property
    @abstractmethod
    def level(self) -> LevelOfTheory:
        """The level of theory of the labels."""

    @property
    def terms(self) -> Terms:
        """Conditions on which a label is taken from the ledger or bought anew."""
        return Terms(level=self.level)

    @abstractmethod
    def make(self, frames: Reference) -> Flow:
        """Label a list of Frames; the output is a `Labels` document."""

    def for_all(self) -> LabelMaker:
        """Return the Maker that waits for every label, where it would go on without some."""
        return self

    @abstractmethod
    def relax(self, frames: Reference) -> Job:
        """Relax cells and positions of a list of Frames; the output is a list of Frames."""

    @abstractmethod
    def aimd(self, frames: Reference, run: MolecularDynamics) -> Job:
        """Run molecular dynamics from a list of Frames; the output is a `Labels` document.

        Every `run.every`-th step is a label at the Maker's level of theory.

        Parameters
        ----------
        frames
            List of Frames: where the runs start.
        run
            Temperature, length and time step of each run.

        Raises
        ------
        NotImplementedError
            If the labeller runs no molecular dynamics.
        """


@dataclass
class TrainMaker(FrozenMaker, ABC):
    """Trains an ensemble of models.

    Parameters
    ----------
    type_map
        Chemical symbols in the order of the models' types; empty: those of the start structures.
    validation_fraction
        Fraction of the frames held back from training, decided by trajectory for good.
    allow_mixed
        Whether labels of several levels of theory may be trained on together.

    Attributes
    ----------
    kind
        Kind of the potentials that it trains, such as ``deepmd``; `ExploreMaker.drives` names it.
    """

    kind: ClassVar[str]

    name: str = "train"
    type_map: list[str] = field(default_factory=list)
    validation_fraction: float = 0.05
    allow_mixed: bool = False

    def weighing(self, label_weight: float) -> TrainMaker:
        """Return the Maker that draws labels so many times as often as those of a teacher.

        Parameters
        ----------
        label_weight
            How many times as often.

        Raises
        ------
        InputError
            If it draws all frames alike, and the weight is not 1.
        """
        if label_weight != 1:
            raise InputError(
                f"{type(self).__name__} draws all frames alike: it cannot draw labels "
                f"{label_weight:g} times as often as those of a teacher; set label_weight to 1"
            )
        return self

    @abstractmethod
    def make(self, dataset: Reference, previous: Reference = None, seed: int = 0) -> Flow:
        """Train on a list of `Labels`; the output is an `EnsembleDoc`.

        Parameters
        ----------
        dataset
            List of `Labels`.
        previous
            The ensemble of the last turn, to start from if the settings ask for it.
        seed
            Seed of the first model; the others follow it.
        """

    @abstractmethod
    def evaluate(self, ensemble: Reference, labels: Reference) -> Job:
        """Compare an ensemble with `Labels`; the output is an `EvaluationDoc`.

        Parameters
        ----------
        ensemble
            The models.
        labels
            `Labels` that the models were not trained on.
        """


@dataclass
class ExploreMaker(FrozenMaker, ABC):
    """Explores configuration space with an ensemble.

    Parameters
    ----------
    type_map
        Chemical symbols in the order of the models' types; empty: those of the start structures.

    Attributes
    ----------
    drives
        Kinds of potentials that it can run molecular dynamics with.
    """

    drives: ClassVar[frozenset[str]]

    name: str = "explore"
    type_map: list[str] = field(default_factory=list)

    def check_kind(self, kind: str) -> None:
        """Check that it can run molecular dynamics with potentials of a kind.

        Raises
        ------
        InputError
            If it cannot.
        """
        if kind not in self.drives:
            raise InputError(
                f"explore: {type(self).__name__} runs potentials of the kind "
                f"{' or '.join(sorted(self.drives))}, and those of this run are of the kind "
                f"{kind}; choose an explorer that runs them, or another trainer"
            )

    @abstractmethod
    def make(
        self,
        ensemble: Reference,
        stage: Stage,
        structures: Reference,
        trust: TrustWindow,
        seed: int = 0,
        previous: Reference = None,
    ) -> Flow:
        """Run a stage; the output is an `ExplorationDoc`.

        Parameters
        ----------
        ensemble
            The models.
        stage
            Temperatures, pressures, lengths.
        structures
            List of Frames: the start structures.
        trust
            Window with which frames are judged where they are made.
        seed
            Seed of disturbances and velocities.
        previous
            An `ExplorationDoc` of the same stage: each trajectory starts at the last good frame
            that it had there, if it had one.
        """


@dataclass
class SelectMaker(FrozenMaker, ABC):
    """Picks frames for labelling."""

    name: str = "select"

    @property
    @abstractmethod
    def max_labels(self) -> int:
        """Labels per turn, where a stage has no number of its own."""

    @abstractmethod
    def at_random(self) -> SelectMaker:
        """Return the Maker that picks at random from all frames that are physically sound."""

    @abstractmethod
    def make(
        self, exploration: Reference, dataset: Reference, max_labels: int, seed: int = 0
    ) -> Job:
        """Pick at most `max_labels` from an `ExplorationDoc`; the output is a `SelectionDoc`."""
