"""What a labeller is: its settings, a level of theory, and one way to calculate a frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveInt

from ionloop.codes.common import ase
from ionloop.codes.common.acceptance import AcceptanceLimits, Calculated
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.units import Force

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


class Labeller(Model, ABC):
    """Settings of a program or a model that calculates labels.

    A new labeller defines `level` and `calculate`. Relaxations and molecular dynamics then work
    too, through ASE, if its results have a virial; a program that does them better by itself
    overrides `relax` and `dynamics`.
    """

    limits: AcceptanceLimits = AcceptanceLimits()
    """limits beyond which a label is rejected"""
    relax_fmax: Annotated[Force, Field(gt=0)] = 0.05
    """largest force at the end of a relaxation, eV/Å"""
    relax_steps: PositiveInt = 200
    """most steps of a relaxation"""

    @property
    @abstractmethod
    def level(self) -> LevelOfTheory:
        """The level of theory: everything that decides the value of a label, and nothing else."""

    @property
    def effort(self) -> dict[str, Any]:
        """Settings outside the level of theory that decide whether a calculation converges."""
        return {}

    @abstractmethod
    def calculate(self, frame: Frames, folder: Path, cores: int = 1) -> Calculated:
        """Calculate energy, forces and virial of a frame.

        Parameters
        ----------
        frame
            Frames of one.
        folder
            Folder for the files of this calculation alone; it need not exist.
        cores
            Cores or MPI ranks.

        Raises
        ------
        Exception
            Any error, if there is no result; only this frame is then without a label.
        """

    def ase_calculator(self, folder: Path, cores: int = 1) -> Calculator:
        """Return an ASE calculator that calls `calculate`.

        Parameters
        ----------
        folder, cores
            As for `calculate`.
        """
        return ase.as_calculator(partial(self.calculate, folder=folder, cores=cores))

    def relax(self, frame: Frames, folder: Path, cores: int = 1) -> Frames:
        """Relax cell and positions of a frame; return it without labels, on the grid of the ids.

        Parameters
        ----------
        frame, folder, cores
            As for `calculate`.
        """
        return ase.relax(self.ase_calculator(folder, cores), frame, self)

    def dynamics(
        self, frame: Frames, run: MolecularDynamics, folder: Path, cores: int = 1
    ) -> Iterable[Calculated]:
        """Run molecular dynamics; give the steps that `run` keeps, with positions and cells.

        Parameters
        ----------
        frame
            Frames of one: the start.
        run
            Temperature, length, and which steps are kept.
        folder, cores
            As for `calculate`.
        """
        return ase.dynamics(self.ase_calculator(folder, cores), frame, run)
