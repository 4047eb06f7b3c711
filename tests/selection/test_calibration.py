from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from ionloop.codes.common.prediction import ensemble_deviation, ensemble_virial_deviation
from ionloop.selection.calibration import calibrate, max_force_error, ranks


def test_two_models_that_differ_by_a_vector_deviate_by_half_its_length():
    forces = np.zeros((2, 1, 3, 3))
    forces[1, 0, 1] = [0.3, 0.0, 0.4]
    assert ensemble_deviation(forces) == pytest.approx([0.25])


def test_the_largest_component_of_the_virial_counts_per_atom():
    virials = np.zeros((2, 1, 3, 3))
    virials[1, 0, 0, 2] = 8.0
    virials[1, 0, 1, 1] = 2.0
    assert ensemble_virial_deviation(virials, n_atoms=10) == pytest.approx([0.4])


def test_deviations_are_those_of_deepmd():
    model_devi = pytest.importorskip("deepmd.infer.model_devi")
    rng = np.random.default_rng(0)
    forces, virials = rng.normal(size=(4, 5, 7, 3)), rng.normal(size=(4, 5, 3, 3))
    assert np.allclose(ensemble_deviation(forces), model_devi.calc_model_devi_f(forces)[0])
    per_atom = virials.reshape(4, 5, 9) / 7
    expected = model_devi.calc_model_devi_v(per_atom)[0]
    assert np.allclose(ensemble_virial_deviation(virials, 7), expected)


def test_the_error_is_that_of_the_worst_atom():
    reference = np.zeros((2, 3, 3))
    forces = reference.copy()
    forces[0, 2] = [0.0, 3.0, 4.0]
    forces[1, 0] = [1.0, 0.0, 0.0]
    assert max_force_error(forces, reference).tolist() == [5.0, 1.0]


def test_an_error_of_twice_the_deviation_is_found():
    deviation = np.linspace(0.1, 0.5, 21)
    calibration = calibrate(deviation, 2 * deviation)
    assert calibration.n_frames == 21
    assert calibration.rank_correlation == pytest.approx(1)
    ratios = (calibration.ratio_q10, calibration.ratio_q50, calibration.ratio_q90)
    assert ratios == pytest.approx((2, 2, 2))


def test_ratios_come_in_order_and_a_reversed_order_is_seen():
    deviation = np.array([1.0, 2.0, 4.0])
    calibration = calibrate(deviation, np.array([4.0, 3.0, 2.0]))
    assert calibration.rank_correlation == pytest.approx(-1)
    assert calibration.ratio_q50 == pytest.approx(1.5)
    assert calibration.ratio_q10 < calibration.ratio_q50 < calibration.ratio_q90


def test_a_calibration_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="two frames or more, not 1"):
        calibrate(np.array([0.1]), np.array([0.2]))
    with pytest.raises(ValueError, match="deviations above zero"):
        calibrate(np.array([0.1, 0.0]), np.array([0.2, 0.2]))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_ranks_are_those_of_scipy(values):
    assert ranks(np.array(values, dtype=float)).tolist() == (rankdata(values) - 1).tolist()
