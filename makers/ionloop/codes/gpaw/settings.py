"""Settings of GPAW."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.dft import DftSettings
from ionloop.codes.gpaw.calculation import calculate
from ionloop.codes.gpaw.level import level_of_theory
from ionloop.programs.environment import Command
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.units import Energy


class GpawSettings(DftSettings):
    """GPAW in plane waves as a labeller."""

    command: Command = "mpirun.openmpi -np {cores} gpaw python"
    """what runs a Python script under GPAW, {cores} standing for the MPI ranks; the mpirun must be
    that of the MPI that GPAW was built with"""
    version: str = "26"
    """GPAW's version as far as labels depend on it; another one is refused"""
    setups_version: str = "1.2.1"
    """version of gpaw-data, or name of the folder of the setups; another one is refused"""
    cutoff: Annotated[Energy, Field(gt=0)] = 500.0
    """plane-wave cut-off in eV"""
    smearing: Annotated[Energy, Field(ge=0)] = 0.05
    """Fermi-Dirac width in eV; 0 for fixed occupations"""
    energy_convergence: Annotated[Energy, Field(gt=0)] = 1e-5
    """change of the energy at convergence, eV per valence electron"""
    density_convergence: Annotated[float, Field(gt=0)] = 1e-4
    """change of the density at convergence, electrons per valence electron"""
    setups: dict[str, str] = Field(default_factory=dict)
    """setup by chemical symbol where it is not the default one, such as {Ti: '4'}"""
    magnetic_moments: dict[str, float] = Field(default_factory=dict)
    """initial magnetic moment by chemical symbol in μB, with spin_polarised"""
    options: dict[str, Any] = Field(default_factory=dict)
    """further keyword arguments of GPAW, or other values, but not kpts"""

    @field_validator("options")
    @classmethod
    def _leave_kpoints_alone(cls, options: dict[str, Any]) -> dict[str, Any]:
        if "kpts" in options:  # what is said of the meshes, and kept, is said of kpoints
            raise ValueError("options: kpts is not set there: say kpoints")
        return options

    @property
    def level(self) -> LevelOfTheory:
        """The level of theory of the labels."""
        return level_of_theory(self)

    def calculate(self, frame: Frames, folder: Path, cores: int = 1) -> Calculated:
        """Calculate energy, forces and virial of a frame."""
        return calculate(self, frame, folder, cores)
