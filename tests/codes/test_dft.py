from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ionloop.codes.acceptance import Calculated
from ionloop.codes.dft import NotConvergedError, as_calculator, unconverged
from ionloop.codes.forcefield import ForceFieldSettings, calculate, calculator, relax
from ionloop.codes.gpaw import GpawSettings
from ionloop.schemas.frames import Frames

COPPER = Frames(
    ("Cu", "Cu", "Cu", "Cu"),
    np.array([[[0, 0, 0], [0, 1.9, 1.9], [1.9, 0, 1.9], [1.9, 1.9, 0.2]]]),
    np.array([np.diag([3.8, 3.8, 3.7])]),
)
EMT = calculator(ForceFieldSettings(model="ase.calculators.emt:EMT"))


def test_kpoints_are_those_given_without_a_spacing():
    assert GpawSettings(kpoints=(2, 1, 3)).k_grid(np.eye(3)) == (2, 1, 3)


@pytest.mark.parametrize(
    ("spacing", "expected"), [(0.5, (2, 2, 1)), (0.25, (4, 3, 2)), (10.0, (1, 1, 1))]
)
def test_the_grid_of_a_spacing(spacing, expected):
    # 2π/8 = 0.785, 2π/10 = 0.628, 2π/15 = 0.419: as VASP rounds KSPACING up.
    cell = np.diag([8.0, 10.0, 15.0])
    assert GpawSettings(k_spacing=spacing).k_grid(cell) == expected


@given(st.integers(1, 6), st.floats(2.0, 20.0))
def test_a_grid_that_fits_exactly_is_not_refined(n, length):
    spacing = 2 * np.pi / length / n
    assert GpawSettings(k_spacing=spacing).k_grid(length * np.eye(3)) == (n, n, n)


def test_an_oblique_cell_counts_by_its_reciprocal_vectors():
    cell = np.array([[4.0, 0, 0], [3.0, 4.0, 0], [0, 0, 4.0]])
    lengths = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell).T, axis=1)
    spacing = 0.3
    assert GpawSettings(k_spacing=spacing).k_grid(cell) == tuple(
        np.ceil(lengths / spacing).astype(int)
    )


def test_relaxation_through_a_function_is_that_of_the_calculator():
    settings = GpawSettings(relax_fmax=0.01)
    around = as_calculator(lambda frame: calculate(EMT, frame))
    assert relax(around, COPPER, settings) == relax(EMT, COPPER, settings)


def test_a_relaxation_does_not_go_on_unconverged():
    def calculate_nothing(frame: Frames) -> Calculated:
        return unconverged(frame, 1.0, 2)

    with pytest.raises(NotConvergedError, match="electronic steps"):
        relax(as_calculator(calculate_nothing), COPPER, GpawSettings())
