from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ionloop.codes.common.acceptance import (
    AcceptanceLimits,
    Calculated,
    Terms,
    accept,
    failed,
    judged,
    stands,
)
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LevelOfTheory, RejectReason

LEVEL = LevelOfTheory(code="test", settings={"model": "m"})
CELL = np.array([[5.0, 0, 0], [1, 6, 0], [0, 1, 7]])
FRAME = Frames(("Li", "S"), np.array([[[0.1, 0.2, 0.3], [2.5, 3, 3.5]]]), CELL[None])
GOOD = Calculated(
    energy=-7.5,
    forces=np.array([[1.0, 2, 3], [-1, -2, -3]]),
    virial=np.diag([1.0, 2, 3]),
    positions=FRAME.positions[0],
    cell=CELL,
    seconds=1.5,
    cores=2,
)


def judge(limits=None, **changes):
    limits = limits or AcceptanceLimits()
    return accept(FRAME, replace(GOOD, **changes), LEVEL, limits)


def test_a_good_result_is_accepted_with_its_label():
    doc = judge()
    assert (doc.status, doc.reason, doc.detail) == ("accepted", None, "")
    assert doc.frame_id == FRAME.ids[0] == doc.frame.ids[0]
    assert doc.level == doc.frame.level == LEVEL.hash
    assert (doc.energy, doc.seconds, doc.cores) == (-7.5, 1.5, 2)
    assert np.array_equal(doc.frame.forces[0], GOOD.forces)
    assert np.array_equal(doc.frame.virials[0], GOOD.virial)
    assert (doc.species, doc.n_atoms) == (["Li", "S"], 2)


def test_a_result_may_have_no_virial_and_no_geometry():
    doc = judge(virial=None, positions=None, cell=None)
    assert doc.status == "accepted"
    assert doc.frame.virials is None


BROKEN_FORCES = np.array([[1.0, np.nan, 0], [0, 0, 0]])
LARGE_FORCES = np.array([[60.0, 60, 60], [0, 0, 0]])


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"converged": False}, "unconverged", "did not converge"),
        ({"forces": np.zeros((3, 3))}, "misshaped", "forces has shape"),
        ({"virial": np.zeros(6)}, "misshaped", "virial has shape"),
        ({"energy": float("nan")}, "non-finite", "energy"),
        ({"forces": BROKEN_FORCES}, "non-finite", "forces"),
        ({"virial": np.full((3, 3), np.inf)}, "non-finite", "virial"),
        ({"positions": FRAME.positions[0] + 2e-3}, "misshaped", "0.003464 Å"),
        ({"positions": FRAME.positions[0][::-1]}, "misshaped", "a calculated atom"),
        ({"cell": CELL * 1.001}, "misshaped", "cell differs"),
        ({"forces": LARGE_FORCES}, "outlier", "103.9 eV/Å on atom 1 (Li) exceeds max_force"),
        ({"level_difference": "ISMEAR -5 → 0"}, "other level", "ISMEAR -5 → 0"),
        ({"level_difference": "ISMEAR", "converged": False}, "unconverged", "did not converge"),
    ],
)
def test_rejections_have_a_reason_and_a_sentence(changes, reason, words):
    doc = judge(**changes)
    assert (doc.status, doc.reason) == ("rejected", reason)
    assert words in doc.detail
    assert doc.frame.unlabelled() == FRAME
    assert doc.reason.is_final


@pytest.mark.parametrize("numbers", [{"forces": BROKEN_FORCES}, {"virial": np.zeros(6)}])
def test_numbers_that_are_not_whole_and_finite_are_not_kept(numbers):
    assert (judge(**numbers).frame, judge(**numbers).energy) == (FRAME, None)


def test_a_rejected_calculation_keeps_its_numbers():
    doc = judge(forces=LARGE_FORCES)
    assert np.array_equal(doc.frame.forces[0], LARGE_FORCES)
    assert (doc.energy, doc.largest_force) == (-7.5, pytest.approx(103.9, abs=0.1))


def test_the_verdict_is_by_the_limits_of_the_run_at_hand():
    strict, loose = AcceptanceLimits(max_force=1.0), AcceptanceLimits(max_force=1000.0)
    assert judged(judge(), strict).reason == RejectReason.OUTLIER
    assert judged(judged(judge(), strict), loose) == judge(loose)
    spoilt = judge(AcceptanceLimits(energy_window=(3.0, 4.0)))
    assert spoilt.reason == RejectReason.OUTLIER
    assert judged(spoilt, AcceptanceLimits()).status == "accepted"
    moved = judge(positions=FRAME.positions[0] + 2e-3)
    assert judged(moved, AcceptanceLimits(position_tolerance=0.1)).status == "accepted"


def test_a_verdict_of_limits_stands_and_one_of_effort_does_when_the_effort_is_the_same():
    few, many = (Terms(level=LEVEL, effort={"NELM": n}) for n in (60, 200))
    unconverged = judge(converged=False).model_copy(update={"effort": {"NELM": 60}})
    assert stands(unconverged, few)
    assert not stands(unconverged, many)
    assert stands(judge(forces=LARGE_FORCES), many)
    assert stands(judge(), many)
    assert not stands(failed(FRAME, LEVEL, RuntimeError("no memory")), few)


def test_a_rejection_of_the_version_before_kept_no_numbers_and_is_calculated_again():
    old = judge(forces=LARGE_FORCES).model_copy(update={"calculation": None, "frame": FRAME})
    loose = AcceptanceLimits(max_force=1000.0)
    assert judged(old, loose).reason == RejectReason.OUTLIER
    assert not stands(old, Terms(level=LEVEL))
    accepted = judge().model_copy(update={"calculation": None})
    assert stands(accepted, Terms(level=LEVEL))
    assert judged(accepted, AcceptanceLimits(max_force=1.0)).reason == RejectReason.OUTLIER


@pytest.mark.parametrize("window", [(4.0, 3.0), (3.0, 3.0)])
def test_a_reversed_energy_window_is_refused(window):
    with pytest.raises(ValueError, match="write the lowest energy first"):
        AcceptanceLimits(energy_window=window)


def test_wrapped_atoms_are_where_they_were_requested():
    wrapped = FRAME.positions[0] + np.array([[1, 0, -1], [0, 2, 0]]) @ CELL
    assert judge(positions=wrapped).status == "accepted"


def test_the_energy_window_is_per_atom():
    limits = AcceptanceLimits(energy_window=(-4.0, -3.0))
    assert judge(limits).status == "accepted"
    assert judge(limits, energy=-8.1).reason == RejectReason.OUTLIER
    assert "-2.9500 eV/atom" in judge(limits, energy=-5.9).detail


def test_a_failed_labeller_is_recorded_and_may_be_asked_again():
    doc = failed(FRAME, LEVEL, RuntimeError("out of\nmemory"), seconds=3.0)
    assert doc.reason == RejectReason.LABELLER_FAILED
    assert doc.detail == "the labeller raised RuntimeError: out of memory"
    assert not doc.reason.is_final
    assert doc.frame == FRAME
    assert doc.seconds == 3.0


def test_a_label_is_for_one_frame():
    with pytest.raises(ValueError, match="one frame, got 2"):
        accept(FRAME[[0, 0]], GOOD, LEVEL, AcceptanceLimits())
