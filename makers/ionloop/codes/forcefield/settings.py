"""Settings of universal potentials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, PositiveInt, model_validator

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.ase import calculate
from ionloop.codes.common.labeller import Labeller
from ionloop.codes.forcefield.model import (
    CHECKPOINT,
    calculator,
    level_of_theory,
    split_import_path,
)
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LevelOfTheory

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


class ForceFieldSettings(Labeller):
    """A universal potential, or any other ASE calculator, as a labeller."""

    model: str = "7net-0"
    """a SevenNet name (7net-0, 7net-l3i5, 7net-mf-0), chgnet, or the import path of what returns an
    ASE calculator, such as ase.calculators.emt:EMT"""
    checkpoint: Path | None = None
    """local model file, instead of the weights that come with the package"""
    options: dict[str, Any] = Field(default_factory=dict)
    """keyword arguments of the calculator; for an import path the values '{checkpoint}' and
    '{device}' stand for the settings of that name"""
    device: str = "cpu"
    """device of torch: cpu, cuda, cuda:1, …"""
    relax_steps: PositiveInt = 500
    """most steps of a relaxation"""

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.family == "custom":
            split_import_path(self.model)
            if self.checkpoint is not None and CHECKPOINT not in self.options.values():
                raise ValueError(
                    f"checkpoint is set but no option of {self.model} takes it; say which one, "
                    f"such as options: {{model: '{CHECKPOINT}'}}"
                )
        return self

    @property
    def family(self) -> str:
        """What `model` names: ``sevennet``, ``chgnet`` or ``custom``."""
        name = self.model.lower()
        if name.startswith(("7net", "sevennet")):
            return "sevennet"
        return "chgnet" if name == "chgnet" else "custom"

    @property
    def level(self) -> LevelOfTheory:
        """The level of theory of the labels."""
        return level_of_theory(self)

    def calculate(self, frame: Frames, folder: Path, cores: int = 1) -> Calculated:
        """Calculate energy, forces and virial of a frame; no files are written."""
        return calculate(calculator(self), frame)

    def ase_calculator(self, folder: Path, cores: int = 1) -> Calculator:
        """Return the ASE calculator, which needs neither a folder nor cores."""
        return calculator(self)
