"""What the DFT programs share: settings, k-points, relaxation."""

# mypy: allow-untyped-calls
from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from ionloop.codes.common.acceptance import AcceptanceLimits, Calculated
from ionloop.codes.common.errors import OtherLevelError
from ionloop.programs.environment import Command
from ionloop.schemas.document import Model
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import DEFAULT_SPACING, MEANING, Kept, KPoints, StartCell
from ionloop.schemas.units import Force, Seconds

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


class DftSettings(Model):
    """Settings that every DFT program has."""

    program: ClassVar[str]

    command: Command
    version: str
    xc: str = Field("PBE", description="exchange-correlation functional, in the program's words")
    kpoints: KPoints = Field(DEFAULT_SPACING, description=MEANING)
    spin_polarised: bool = Field(False, description="whether the two spins differ")
    max_scf_steps: PositiveInt = Field(
        200, description="electronic steps after which a frame counts as unconverged"
    )
    timeout: Annotated[Seconds, Field(gt=0)] = Field(
        7200.0, description="time limit of one frame in s"
    )
    limits: AcceptanceLimits = Field(
        AcceptanceLimits(), description="limits beyond which a label is rejected"
    )
    relax_fmax: Annotated[Force, Field(gt=0)] = Field(
        0.05, description="largest force at the end of a relaxation, eV/Å"
    )
    relax_steps: PositiveInt = Field(200, description="most steps of a relaxation")

    @model_validator(mode="before")
    @classmethod
    def _read_older_spelling(cls, given: Any) -> Any:
        """Read `k_spacing`, which was a key of its own and replaced `kpoints`."""
        if not isinstance(given, Mapping) or "k_spacing" not in given:
            return given
        rest = {key: value for key, value in given.items() if key != "k_spacing"}
        return rest if given["k_spacing"] is None else rest | {"kpoints": given["k_spacing"]}

    @property
    def effort(self) -> dict[str, Any]:
        """What a rejection of an unconverged calculation hangs on, outside the level of theory."""
        return {"max_scf_steps": self.max_scf_steps}

    @property
    def start_cells(self) -> list[StartCell]:
        """The start cells whose meshes are kept, as the level of theory tells them."""
        return self.kpoints.start_cells if isinstance(self.kpoints, Kept) else []

    @abstractmethod
    def ase_calculator(self, folder: Path, cores: int) -> Calculator:
        """Return an ASE calculator that starts the program in `folder` on so many MPI ranks."""


def check_version(name: str, found: str, key: str, asked: str) -> None:
    """Raise an `OtherLevelError` if a program is not of the version that ``label.KEY`` says.

    Parameters
    ----------
    name
        What it is the version of.
    found
        The version that is there.
    key
        Key of the settings.
    asked
        The version as far as labels depend on it: 26 takes 26.7, and not 260.1.
    """
    if found != asked and not found.startswith(f"{asked}."):
        raise OtherLevelError(
            f"the version of {name} is {found}, and label.{key} says {asked}: labels of two "
            f"versions do not mix; set label.{key}: '{found}', or run the other one"
        )


def unconverged(frame: Frames, seconds: float, cores: int) -> Calculated:
    """Return the result of a calculation whose electronic steps did not converge."""
    nothing = np.full((frame.n_atoms, 3), np.nan)
    return Calculated(np.nan, nothing, converged=False, seconds=seconds, cores=cores)


class NotConvergedError(IonloopError, RuntimeError):
    """The electronic steps did not converge on the way of a relaxation or of MD."""


def as_calculator(calculate: Callable[[Frames], Calculated]) -> Calculator:
    """Return an ASE calculator around a function that calculates one frame.

    Parameters
    ----------
    calculate
        Takes Frames of one; its errors pass through, and electronic steps that did not converge
        raise `NotConvergedError`.
    """
    from ase.calculators.calculator import Calculator, all_changes

    from ionloop.formats.ase import from_ase

    class FrameCalculator(Calculator):
        implemented_properties = [  # noqa: RUF012  # ASE declares an instance variable
            "energy",
            "free_energy",
            "forces",
            "stress",
        ]

        def calculate(
            self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            bare = atoms.copy()
            self.results = _ase_results(calculate(from_ase([bare])[0]), bare.get_volume())

    return FrameCalculator()


def _ase_results(result: Calculated, volume: float) -> dict[str, Any]:
    from ase.stress import full_3x3_to_voigt_6_stress

    if not result.converged:
        raise NotConvergedError("the electronic steps did not converge")
    assert result.virial is not None
    return {
        "energy": result.energy,
        "free_energy": result.energy,
        "forces": result.forces,
        "stress": full_3x3_to_voigt_6_stress(-result.virial / volume),
    }
