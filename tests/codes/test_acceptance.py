from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ionloop.codes.acceptance import AcceptanceLimits, Calculated, accept, failed
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
        ({"forces": LARGE_FORCES}, "outlier", "103.9 eV/Å exceeds max_force"),
        ({"level_difference": "ISMEAR -5 → 0"}, "other level", "ISMEAR -5 → 0"),
        ({"level_difference": "ISMEAR", "converged": False}, "unconverged", "did not converge"),
    ],
)
def test_rejections_have_a_reason_and_a_sentence(changes, reason, words):
    doc = judge(**changes)
    assert (doc.status, doc.reason) == ("rejected", reason)
    assert words in doc.detail
    assert doc.frame == FRAME
    assert doc.energy is None
    assert doc.reason.is_final


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
