"""Settings of CP2K."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.dft import DftSettings
from ionloop.codes.cp2k.calculation import calculate
from ionloop.codes.cp2k.level import level_of_theory
from ionloop.programs.environment import Command
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.units import Energy


class Kind(Model, use_attribute_docstrings=True):
    """Basis set and pseudopotential of an element, where they are not the common ones."""

    basis: str | None = None
    """basis set; none: that of all"""
    potential: str | None = None
    """pseudopotential; none: that of all"""


class Cp2kSettings(DftSettings):
    """CP2K with Gaussians and plane waves as a labeller."""

    command: Command = "mpirun.openmpi -np {cores} cp2k.psmp"
    """what starts CP2K, {cores} standing for the MPI ranks; the mpirun must be that of the MPI that
    CP2K was built with"""
    version: str = "2023.1"
    """CP2K's version as far as labels depend on it; another one is refused"""
    basis: str = "DZVP-MOLOPT-SR-GTH"
    """basis set of every element"""
    potential: str = "GTH-PBE"
    """pseudopotential of every element"""
    kinds: dict[str, Kind] = Field(default_factory=dict)
    """basis set and pseudopotential by chemical symbol"""
    basis_files: list[str] = Field(default_factory=lambda: ["BASIS_MOLOPT"])
    """files of the basis sets: names in CP2K's data folder, or full paths"""
    potential_file: str = "GTH_POTENTIALS"
    """file of the pseudopotentials, likewise"""
    cutoff: Annotated[float, Field(gt=0)] = Field(800.0, json_schema_extra={"unit": "Ry"})
    """plane-wave cut-off in Ry"""
    relative_cutoff: Annotated[float, Field(gt=0)] = Field(60.0, json_schema_extra={"unit": "Ry"})
    """cut-off for a Gaussian of exponent 1 in Ry"""
    smearing: Annotated[Energy, Field(ge=0)] = 0.0
    """Fermi-Dirac width in eV; 0 for fixed occupations by orbital transformation"""
    empty_orbitals: PositiveInt = 20
    """orbitals above the occupied ones, with smearing or k-points"""
    scf_convergence: Annotated[float, Field(gt=0)] = 1e-6
    """EPS_SCF: largest error of the electronic gradient"""
    precision: Annotated[float, Field(gt=0)] = 1e-10
    """EPS_DEFAULT: precision of the matrix elements"""
    multiplicity: NonNegativeInt = 0
    """2S+1, with spin_polarised; 0: the lowest possible"""

    @property
    def level(self) -> LevelOfTheory:
        """The level of theory of the labels."""
        return level_of_theory(self)

    def calculate(self, frame: Frames, folder: Path, cores: int = 1) -> Calculated:
        """Calculate energy, forces and virial of a frame."""
        return calculate(self, frame, folder, cores)

    def basis_and_potential(self, symbol: str) -> tuple[str, str]:
        """Return the names of basis set and pseudopotential of an element."""
        own = self.kinds.get(symbol, Kind())
        return own.basis or self.basis, own.potential or self.potential
