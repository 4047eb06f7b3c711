"""Settings of CP2K."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.dft import DftSettings
from ionloop.codes.cp2k.calculation import calculate
from ionloop.codes.cp2k.data import data_entries
from ionloop.programs.environment import Command
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import GAMMA, description, explicit
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.units import Energy


class Kind(Model):
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
        """The level of theory: everything that decides the value of a label.

        Files in CP2K's own data folder count by name, because the version decides their content.
        Files that are given by a path count by their content for each element, wherever they are.
        Keys of older versions had neither, so nothing proves of which level their labels are.

        Raises
        ------
        FileNotFoundError
            If a file that is given by its path does not exist.
        """
        diagonalises = self.smearing > 0 or explicit(self.kpoints) != GAMMA
        own = [name for name in self.basis_files if not _is_path(name)]
        about: dict[str, Any] = {
            "version": self.version,
            "xc": self.xc,
            "basis": self.basis,
            "basis files": own,
            "pseudopotentials": self.potential,
            "cut-off": f"{self.cutoff:g} and {self.relative_cutoff:g} Ry",
            "k-points": description(self.kpoints),
            "spin": f"polarised, multiplicity {self.multiplicity}"
            if self.spin_polarised
            else "unpolarised",
            "smearing": f"{self.smearing:g} eV",
            "convergence": f"{self.scf_convergence:g}, precision {self.precision:g}",
        }
        if not _is_path(self.potential_file):
            about["potential file"] = self.potential_file
        if diagonalises:
            about["empty orbitals"] = self.empty_orbitals
        return LevelOfTheory(
            code="cp2k",
            settings=about,
            elements=_by_element(self),
            start_cells=self.start_cells,
        )

    def calculate(self, frame: Frames, folder: Path, cores: int = 1) -> Calculated:
        """Calculate energy, forces and virial of a frame."""
        return calculate(self, frame, folder, cores)

    def basis_and_potential(self, symbol: str) -> tuple[str, str]:
        """Return the names of basis set and pseudopotential of an element."""
        own = self.kinds.get(symbol, Kind())
        return own.basis or self.basis, own.potential or self.potential


def _by_element(settings: Cp2kSettings) -> dict[str, dict[str, str]]:
    """Return by symbol: basis set and potential unless they are the common ones, and contents."""
    common = (settings.basis, settings.potential)
    about: dict[str, dict[str, str]] = {}
    for symbol in settings.kinds:
        basis, potential = settings.basis_and_potential(symbol)
        if (basis, potential) != common:
            about[symbol] = {"basis": basis, "potential": potential}
    for name in filter(_is_path, (*settings.basis_files, settings.potential_file)):
        for (symbol, entry), content in data_entries(Path(name)).items():
            if entry in settings.basis_and_potential(symbol):
                about.setdefault(symbol, {})[entry] = content
    return about


def _is_path(name: str) -> bool:
    return Path(name).is_absolute()
