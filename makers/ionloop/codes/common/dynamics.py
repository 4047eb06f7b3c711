"""Molecular dynamics by a labeller: its settings, and which of its steps are labels."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ionloop.schemas.document import Model
from ionloop.schemas.units import Femtoseconds, Temperature

AboveZero = Annotated[Temperature, Field(gt=0)]


class DynamicsSettings(Model):
    """Length of a run in the NVT ensemble, and which of its steps are kept."""

    steps: PositiveInt
    """MD steps"""
    every: PositiveInt = 10
    """every so many steps a frame is kept"""
    skip: NonNegativeInt = 0
    """steps at the start of which no frame is kept"""
    timestep: Annotated[Femtoseconds, Field(gt=0)] = 2.0
    """MD time step in fs"""

    @model_validator(mode="after")
    def _check_kept(self) -> Self:
        if not self.kept:
            raise ValueError(
                f"no frame is kept of {self.steps} steps with skip {self.skip} and every "
                f"{self.every}; raise steps, or lower skip or every"
            )
        return self

    @property
    def kept(self) -> range:
        """Indices of the steps that are kept; 0 is the start."""
        return range(self.skip + self.every - 1, self.steps, self.every)


class MolecularDynamics(DynamicsSettings):
    """A run of molecular dynamics in the NVT ensemble at one temperature."""

    temperature: AboveZero
    """temperature in K"""
