from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ionloop.codes.common.ase import DynamicsError, calculate, dynamics
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.forcefield.model import calculator
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.schemas.frames import Frames

KT = 8.617333262e-5  # eV/K
EMT = calculator(ForceFieldSettings(model="ase.calculators.emt:EMT"))


def springs(sites: np.ndarray, constant: float) -> Any:
    """Return a calculator of independent atoms, each on a spring to its site (Einstein)."""
    from ase.calculators.calculator import Calculator, all_changes

    class Springs(Calculator):
        implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

        def calculate(self, atoms=None, properties=None, system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            moves = atoms.positions - sites
            energy = 0.5 * constant * np.sum(moves**2)
            self.results = {"energy": energy, "free_energy": energy, "forces": -constant * moves}
            self.results["stress"] = np.zeros(6)

    return Springs()


def copper(n: int) -> Frames:
    """Return n copper atoms, 3 Å apart on a line."""
    places = np.arange(n)[:, None] * [3.0, 0.0, 0.0]
    return Frames(("Cu",) * n, places[None], np.diag([3.0 * n, 3.0, 3.0])[None])


@given(st.integers(1, 300), st.integers(1, 50), st.integers(0, 300))
def test_every_nth_step_after_those_skipped_is_kept(steps: int, every: int, skip: int) -> None:
    given_ = {"temperature": 300, "steps": steps, "every": every, "skip": skip}
    if steps - skip < every:
        with pytest.raises(ValidationError, match="no frame is kept"):
            MolecularDynamics(**given_)
        return
    kept = MolecularDynamics(**given_).kept
    assert len(kept) == (steps - skip) // every
    assert skip <= kept[0] and kept[-1] < steps
    assert {(step + 1 - skip) % every for step in kept} == {0}


def test_a_free_start_is_ballistic() -> None:
    # One step from where no force is: each component moves by v dt, <v²> = kT/m.
    frame, run = copper(400), MolecularDynamics(temperature=600, steps=2, every=2, timestep=2.0)
    (step,) = dynamics(springs(frame.positions[0], 5.0), frame, run)
    assert step.positions is not None
    mass = 63.546 / 0.00964853  # eV fs²/Å²
    squares = np.mean((step.positions - frame.positions[0]) ** 2)
    assert squares == pytest.approx(KT * 600 / mass * 2.0**2, rel=0.1)


def test_springs_hold_half_a_kt_each() -> None:
    frame = copper(30)
    run = MolecularDynamics(temperature=600, steps=4000, every=10, skip=1000, timestep=5.0)
    results = list(dynamics(springs(frame.positions[0], 5.0), frame, run))
    assert len(results) == 300
    mean = np.mean([result.energy for result in results]) / (3 * 30)
    assert mean == pytest.approx(0.5 * KT * 600, rel=0.06)


def test_a_step_is_what_the_calculator_gives_there(gold_copper: Frames) -> None:
    run = MolecularDynamics(temperature=500, steps=12, every=4)
    for step in dynamics(EMT, gold_copper[0], run):
        assert step.positions is not None and step.virial is not None
        place = Frames(gold_copper.symbols, step.positions[None], gold_copper.cells[:1])
        alone = calculate(EMT, place)
        assert alone.energy == pytest.approx(step.energy, abs=1e-9)
        np.testing.assert_allclose(step.forces, alone.forces, atol=1e-9)
        np.testing.assert_allclose(step.virial, alone.virial, atol=1e-8)


def test_chance_follows_from_frame_and_temperature(gold_copper: Frames) -> None:
    def ends(frame: Frames, temperature: float) -> np.ndarray:
        run = MolecularDynamics(temperature=temperature, steps=5, every=5)
        (step,) = dynamics(EMT, frame, run)
        assert step.positions is not None
        return step.positions - frame.positions[0]

    first = ends(gold_copper[0], 500)
    np.testing.assert_array_equal(first, ends(gold_copper[0], 500))
    assert np.abs(first - ends(gold_copper[0], 501)).max() > 1e-3
    assert np.abs(first - ends(gold_copper[1], 500)).max() > 1e-3


def test_an_explosion_is_told() -> None:
    frame = copper(4)
    run = MolecularDynamics(temperature=300, steps=20, every=20)
    with pytest.raises(DynamicsError, match="Cu4 at 300 K exploded within 19 steps; shorten"):
        list(dynamics(springs(frame.positions[0], np.nan), frame, run))
