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


class GpawSettings(DftSettings):
    """GPAW in plane waves as a labeller."""

    command: Command = Field(
        "mpirun.openmpi -np {cores} gpaw python",
        description="what runs a Python script under GPAW, {cores} standing for the MPI ranks; "
        "the mpirun must be that of the MPI that GPAW was built with",
    )
    version: str = Field(
        "26", description="GPAW's version as far as labels depend on it; another one is refused"
    )
    setups_version: str = Field(
        "1.2.1",
        description="version of gpaw-data, or name of the folder of the setups; another one is "
        "refused",
    )
    cutoff: Annotated[float, Field(gt=0)] = Field(
        500.0, description="plane-wave cut-off in eV", json_schema_extra={"unit": "eV"}
    )
    smearing: Annotated[float, Field(ge=0)] = Field(
        0.05,
        description="Fermi-Dirac width in eV; 0 for fixed occupations",
        json_schema_extra={"unit": "eV"},
    )
    energy_convergence: Annotated[float, Field(gt=0)] = Field(
        1e-5,
        description="change of the energy at convergence, eV per valence electron",
        json_schema_extra={"unit": "eV"},
    )
    density_convergence: Annotated[float, Field(gt=0)] = Field(
        1e-4, description="change of the density at convergence, electrons per valence electron"
    )
    setups: dict[str, str] = Field(
        default_factory=dict,
        description="setup by chemical symbol where it is not the default one, such as {Ti: '4'}",
    )
    magnetic_moments: dict[str, float] = Field(
        default_factory=dict,
        description="initial magnetic moment by chemical symbol in μB, with spin_polarised",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="further keyword arguments of GPAW, or other values, but not kpts",
    )

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
