"""What the DFT programs share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.errors import OtherLevelError
from ionloop.codes.common.labeller import Labeller
from ionloop.programs.environment import Command
from ionloop.programs.process import ProgramError
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import DEFAULT_SPACING, MEANING, Kept, KPoints, StartCell
from ionloop.schemas.units import Seconds


class DftSettings(Labeller):
    """Settings that every DFT program has."""

    command: Command
    version: str
    xc: str = "PBE"
    """exchange-correlation functional, in the program's words"""
    kpoints: KPoints = Field(DEFAULT_SPACING, description=MEANING)
    spin_polarised: bool = False
    """whether the two spins differ"""
    max_scf_steps: PositiveInt = 200
    """electronic steps after which a frame counts as unconverged"""
    timeout: Annotated[Seconds, Field(gt=0)] = 7200.0
    """time limit of one frame in s"""

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
        """Settings outside the level of theory that decide whether a calculation converges."""
        return {"max_scf_steps": self.max_scf_steps}

    @property
    def start_cells(self) -> list[StartCell]:
        """The start cells whose meshes are kept, as the level of theory names them."""
        return self.kpoints.start_cells if isinstance(self.kpoints, Kept) else []


def check_version(name: str, found: str, key: str, asked: str) -> None:
    """Check that a program has the version in ``label.KEY``.

    Parameters
    ----------
    name
        What it is the version of.
    found
        The version that runs here.
    key
        Key of the settings.
    asked
        The version as far as labels depend on it: 26 stands for 26.7, but not for 260.1.

    Raises
    ------
    OtherLevelError
        If it has another one.
    """
    if found != asked and not found.startswith(f"{asked}."):
        raise OtherLevelError(
            f"the version of {name} is {found}, and label.{key} says {asked}: labels of two "
            f"versions do not mix; set label.{key}: '{found}', or run the other one"
        )


def check_ranks(name: str, found: int, asked: int) -> None:
    """Check that a program runs on the MPI ranks that it was started with.

    Parameters
    ----------
    name
        Name of the program.
    found, asked
        Ranks that the program reports, and those that ``label.cores`` asks for.

    Raises
    ------
    ProgramError
        If they differ: mpirun then started independent copies of the program.
    """
    if found != asked:
        raise ProgramError(
            f"{name} sees {found} MPI ranks where label.cores says {asked}: set -np {{cores}} in "
            f"label.command, and name the mpirun of the MPI that {name} was built with, by its "
            "full path"
        )


def unconverged(frame: Frames, seconds: float, cores: int) -> Calculated:
    """Return the result of a calculation whose electronic steps did not converge.

    Parameters
    ----------
    frame
        Frames of one.
    seconds
        Wall time in s.
    cores
        MPI ranks.
    """
    nothing = np.full((frame.n_atoms, 3), np.nan)
    return Calculated(np.nan, nothing, converged=False, seconds=seconds, cores=cores)
