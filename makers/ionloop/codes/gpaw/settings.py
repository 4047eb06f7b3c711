"""Settings of GPAW."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.dft import DftSettings
from ionloop.codes.gpaw.calculation import calculate
from ionloop.programs.environment import Command
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import description
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.units import Energy

# Options of GPAW that change how it computes, not what.
ARRANGEMENT = {"parallel", "verbose", "communicator"}

# GPAW takes "default" and numbers of atoms beside chemical symbols.
_SYMBOL = re.compile(r"[A-Z][a-z]?")


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
        """The level of theory: everything that decides the value of a label.

        Command, limits, time limit and step limit are left out: they decide whether there is a
        label, not its value.
        """
        about: dict[str, Any] = {
            "version": self.version,
            "setups": self.setups_version,
            "xc": self.xc,
            "cut-off": f"{self.cutoff:g} eV",
            "k-points": description(self.kpoints),
            "spin": "polarised" if self.spin_polarised else "unpolarised",
            "smearing": f"{self.smearing:g} eV",
            "convergence": f"{self.energy_convergence:g} eV, {self.density_convergence:g} e",
        }
        options = {k: v for k, v in self.options.items() if k not in ARRANGEMENT}
        moments = self.magnetic_moments if self.spin_polarised else {}
        of_no_element = {k: v for k, v in self.setups.items() if not _SYMBOL.fullmatch(k)}
        # In older versions every key covered all elements of the settings.
        before = about | _filled(
            {"special setups": self.setups, "magnetic moments": moments, "options": options}
        )
        return LevelOfTheory(
            code="gpaw",
            settings=about | _filled({"special setups": of_no_element, "options": options}),
            elements=_by_element(
                {"setup": self.setups, "magnetic moment": {k: v for k, v in moments.items() if v}}
            ),
            start_cells=self.start_cells,
            former=[LevelOfTheory(code="gpaw", settings=before).hash],
        )

    def calculate(self, frame: Frames, folder: Path, cores: int = 1) -> Calculated:
        """Calculate energy, forces and virial of a frame."""
        return calculate(self, frame, folder, cores)


def _by_element(tables: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Turn dictionaries by name and chemical symbol into one by symbol and name."""
    symbols = sorted({symbol for table in tables.values() for symbol in table})
    return {
        symbol: {name: table[symbol] for name, table in tables.items() if symbol in table}
        for symbol in symbols
        if _SYMBOL.fullmatch(symbol)
    }


def _filled(named: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in named.items() if value}
