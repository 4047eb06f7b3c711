"""Settings of VASP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.common.labeller import Labeller
from ionloop.codes.vasp.inputs import incar
from ionloop.codes.vasp.level import level_of_theory
from ionloop.codes.vasp.potcars import PotcarIdentity
from ionloop.codes.vasp.presets import PRESETS, kpoints
from ionloop.codes.vasp.run import calculate, dynamics, relax
from ionloop.codes.vasp.tags import ELECTRONIC, plain, refusals
from ionloop.programs.environment import Command
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import DEFAULT_SPACING, GAMMA, MEANING, KPoints, explicit
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.units import Force


class VaspSettings(Labeller):
    """A level of theory of VASP, how to start VASP, and the limits on its labels."""

    preset: str | None = Field(
        None, description=f"named settings to start from: {', '.join(PRESETS)}; see docs/vasp.md"
    )
    encut: PositiveFloat | None = None
    """plane-wave cut-off in eV; none: the preset's"""
    kpoints: KPoints | None = Field(
        None, description=f"{MEANING}; none: the preset's, or {DEFAULT_SPACING} 1/Å without one"
    )
    potcar_functional: str = "PBE_54"
    """release of the POTCARs in the words of pymatgen: PBE_54, PBE_64, …"""
    potcars: dict[str, str] = Field(default_factory=dict)
    """POTCAR of each element, such as {Li: Li_sv}; those of the preset otherwise"""
    potentials: dict[str, PotcarIdentity] | None = None
    """what the POTCAR of each element is, such as {Li: {title: PAW_PBE Li_sv 10Sep2004, sha256:
    …}}, for a submitting host without POTCARs; `ionloop check` prints it where they are; none: read
    from the POTCARs of this host"""
    version: str = "6"
    """VASP's version as far as labels depend on it; another one is refused"""
    incar: dict[str, Any] = Field(default_factory=dict)
    """INCAR tags that replace those of a force label; null removes one"""
    vasp_cmd: Command = "vasp_std"
    """command that starts VASP, such as mpirun -np {cores} vasp_std; '{cores}' stands for
    `cores`"""
    vasp_gamma_cmd: Command | None = None
    """command for runs with the Γ point alone; none: vasp_cmd"""
    max_errors: PositiveInt = 5
    """times that custodian may correct and restart one calculation"""
    frozen_after: PositiveFloat = 21_600.0
    """time in s without output after which a calculation counts as hung"""
    relax_fmax: Annotated[Force, Field(gt=0)] = 0.01
    """largest force at the end of a relaxation, eV/Å"""
    relax_steps: PositiveInt = 200
    """most ionic steps of a relaxation"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"there is no preset {self.preset!r}; known: {', '.join(PRESETS)}")
        if self.preset is None and self.encut is None:
            raise ValueError("without a preset, say encut")
        if self.incar.get("ISMEAR", 0) < -3 and explicit(kpoints(self)) == GAMMA:
            raise ValueError("incar: the tetrahedron method (ISMEAR) needs more than the Γ point")
        for tag in self.incar:
            if tag != tag.upper():
                raise ValueError(f"incar: write {tag.upper()}, not {tag}")
        if objections := list(refusals(self.incar)):
            raise ValueError(f"incar: {'; '.join(objections)}")
        return self

    @property
    def level(self) -> LevelOfTheory:
        """The level of theory of the labels."""
        return level_of_theory(self)

    @property
    def effort(self) -> dict[str, Any]:
        """Settings outside the level of theory that decide whether a calculation converges.

        They are those of the electronic steps (NELM, ALGO, mixing), and the number of corrections
        that custodian may make.
        """
        tags = {tag: plain(value) for tag, value in incar(self).items() if tag in ELECTRONIC}
        return {**tags, "max_errors": self.max_errors}

    def calculate(self, frame: Frames, folder: Path, cores: int = 1) -> Calculated:
        """Calculate energy, forces and virial of a frame."""
        return calculate(self, frame, folder, cores)

    def relax(self, frame: Frames, folder: Path, cores: int = 1) -> Frames:
        """Relax cell and positions of a frame by VASP itself."""
        return relax(self, frame, folder, cores)

    def dynamics(
        self, frame: Frames, run: MolecularDynamics, folder: Path, cores: int = 1
    ) -> list[Calculated]:
        """Run molecular dynamics by VASP itself, in one piece, with a Nosé-Hoover thermostat."""
        return dynamics(self, frame, run, folder, cores)
