"""The toy trainer and explorer in a run file, and its crystals as a teacher of other potentials.

The models are those of `harmonic_trainer`, of a kind that names the function which makes an ASE
calculator of them. Every evaluation appends a line to the file named by SPRINGS_LOG.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator
from harmonic_trainer import HarmonicTrainMaker, predict
from pydantic import Field
from random_explorer import RandomExploreMaker
from toy_labeller import frame_key

from ionloop.formats.ase import from_ase
from ionloop.runfile.sections.base import ExploreSection, TrainSection
from ionloop.schemas.document import Model
from ionloop.schemas.potential import StoredFile
from ionloop.selection import PhysicalLimits

KIND = "springs:calculator"


class Springs(Calculator):
    """Atoms on springs, without a stress of their own."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012  # as ASE declares it

    def __init__(self, model: Path) -> None:
        super().__init__()
        self.model = StoredFile.read(model)

    def calculate(self, atoms: Any = None, *args: Any, **kwargs: Any) -> None:
        super().calculate(atoms, *args, **kwargs)
        found = predict([self.model], from_ase([atoms.copy()])[0])
        self.results = {"energy": found.energies[0, 0], "forces": found.forces[0, 0]}
        self.results["stress"] = np.zeros(6)
        if log := os.environ.get("SPRINGS_LOG"):
            time.sleep(0.02)
            with Path(log).open("a") as file:
                file.write(f"{self.model.sha256[:8]}-{frame_key(atoms)}\n")


def calculator(model: Path, device: str) -> Springs:
    """Return the ASE calculator of a model file."""
    return Springs(model)


class SpringsMaker(HarmonicTrainMaker):
    """Trains an ensemble of crystals on springs."""

    kind: ClassVar[str] = KIND


class SpringsExploreMaker(RandomExploreMaker):
    """Explores by random displacements with crystals on springs."""

    drives: ClassVar[frozenset[str]] = frozenset({KIND})


class Nothing(Model):
    """Settings of codes that have none."""


class SpringsSection(TrainSection):
    """An ensemble of crystals on springs."""

    settings_type = Nothing
    maker_type = SpringsMaker

    n_models: int = Field(3, description="models")
    min_models: int = Field(2, description="not used")
    validation_fraction: float = Field(0.3, description="fraction held back")

    def build(self, **given: Any) -> SpringsMaker:
        shared = {"n_models": self.n_models, "validation_fraction": self.validation_fraction}
        return SpringsMaker(**shared, **given)


class SpringsExploreSection(ExploreSection):
    """Exploration by random displacements."""

    settings_type = Nothing
    maker_type = SpringsExploreMaker

    limits: PhysicalLimits = Field(PhysicalLimits(), description="physical limits")

    def build(self, **given: Any) -> SpringsExploreMaker:
        return SpringsExploreMaker(limits=self.limits, **given)
