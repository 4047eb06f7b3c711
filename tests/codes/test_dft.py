from __future__ import annotations

import numpy as np
import pytest

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.ase import NotConvergedError, as_calculator, calculate, relax
from ionloop.codes.common.dft import unconverged
from ionloop.codes.forcefield.model import calculator
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.schemas.frames import Frames

COPPER = Frames(
    ("Cu", "Cu", "Cu", "Cu"),
    np.array([[[0, 0, 0], [0, 1.9, 1.9], [1.9, 0, 1.9], [1.9, 1.9, 0.2]]]),
    np.array([np.diag([3.8, 3.8, 3.7])]),
)
EMT = calculator(ForceFieldSettings(model="ase.calculators.emt:EMT"))


def test_the_older_spelling_of_a_spacing_is_read():
    read = GpawSettings.model_validate
    assert read({"k_spacing": 0.3}) == GpawSettings(kpoints=0.3)
    assert read({"k_spacing": 0.3, "kpoints": (2, 1, 1)}) == GpawSettings(kpoints=0.3)
    # As a document of the version before has it.
    assert read({"k_spacing": None, "kpoints": [1, 1, 1]}).kpoints == (1, 1, 1)


def test_relaxation_through_a_function_is_that_of_the_calculator():
    settings = GpawSettings(relax_fmax=0.01)
    around = as_calculator(lambda frame: calculate(EMT, frame))
    assert relax(around, COPPER, settings) == relax(EMT, COPPER, settings)


def test_a_relaxation_does_not_go_on_unconverged():
    def calculate_nothing(frame: Frames) -> Calculated:
        return unconverged(frame, 1.0, 2)

    with pytest.raises(NotConvergedError, match="electronic steps"):
        relax(as_calculator(calculate_nothing), COPPER, GpawSettings())
