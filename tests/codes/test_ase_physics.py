"""Equations of motion: what they conserve, and what they sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk

from ionloop.codes.ase.integrator import Integrator
from ionloop.codes.common.md import MdSettings
from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.schemas.frames import Frames

TOY = Path(__file__).parents[1] / "toy"
ENSEMBLES = ("nvt", "npt-iso", "npt-aniso", "npt-tri")


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.syspath_prepend(str(TOY))


def begin(ensemble, timestep=2.0, pressure=1e4, **changes):
    """Return an integrator, and 32 atoms of a crystal at 300 K in motion."""
    from morse_potentials import Morse

    atoms = bulk("Al", "fcc", a=3.65, cubic=True).repeat(2)
    task = TrajectoryTask(
        index=0,
        start=Frames(tuple(atoms.symbols), atoms.positions[None], atoms.cell.array[None]),
        temperature=300.0,
        pressure=pressure,
        seed=3,
        ensemble=ensemble,
        steps=100,
        timestep=timestep,
        dump_every=10,
    )
    atoms.calc = Morse(0.3)
    integrator = replace(Integrator.of(task, MdSettings(barostat_damping=100.0)), **changes)
    random = np.random.default_rng(1)
    motion = integrator.start(task.start.positions[0], task.start.cells[0], random)
    evaluate(atoms, motion)
    return integrator, motion, atoms, random


def evaluate(atoms, motion):
    atoms.positions[:], atoms.cell[:] = motion.positions, motion.cell
    motion.forces = atoms.get_forces()
    motion.virial = -atoms.get_volume() * atoms.get_stress(voigt=False)


def go(integrator, motion, atoms, random):
    integrator.before_forces(motion, random)
    evaluate(atoms, motion)
    integrator.after_forces(motion)


def conserved(integrator, motion, atoms):
    """Return the energy of NVE, or the enthalpy with the energy of the barostat, in eV."""
    energy = atoms.get_potential_energy() + integrator.kinetic_energy(motion.velocities)
    if not integrator.moves_cell:
        return energy
    piston = integrator.piston_mass * np.sum(motion.strain_rate**2) / 2
    return energy + integrator.pressure * motion.volume + piston


def drift(ensemble, timestep):
    """Return how far the conserved energy strays in 200 fs without thermostats."""
    system = begin(ensemble, timestep, friction=0.0, piston_friction=0.0)
    integrator, motion, atoms, _ = system
    energies = [conserved(integrator, motion, atoms)]
    for _ in range(round(200 / timestep)):
        go(*system)
        energies.append(conserved(integrator, motion, atoms))
    return np.ptp(energies)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_without_thermostat_energy_is_conserved_to_second_order(ensemble):
    coarse, fine = drift(ensemble, 2.0), drift(ensemble, 1.0)
    assert coarse < 0.05
    assert fine < coarse / 3


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_steps_can_be_taken_back(ensemble):
    """The equations are reversible: with all velocities turned around, the start comes back."""
    system = begin(ensemble, friction=0.0, piston_friction=0.0)
    integrator, motion, atoms, random = system
    start = motion.positions.copy(), motion.cell.copy()
    for _ in range(2):
        for _ in range(20):
            go(integrator, motion, atoms, random)
        motion.velocities, motion.strain_rate = -motion.velocities, -motion.strain_rate
    assert np.abs(motion.positions - start[0]).max() < 1e-8
    assert np.abs(motion.cell - start[1]).max() < 1e-8


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_temperature_and_pressure_are_those_asked_for(ensemble):
    integrator, motion, atoms, random = begin(ensemble, timestep=3.0, pressure=5e4)
    temperatures, pressures = [], []
    for step in range(700):
        go(integrator, motion, atoms, random)
        if step >= 200:
            temperatures.append(integrator.temperature(motion.velocities))
            kinetic = 2 * integrator.kinetic_energy(motion.velocities)
            pressures.append((kinetic + np.trace(motion.virial)) / (3 * motion.volume) / units.bar)
    assert np.mean(temperatures) == pytest.approx(300, rel=0.12)
    if ensemble != "nvt":
        assert np.mean(pressures) == pytest.approx(5e4, rel=0.12)
    momentum = np.sum(integrator.masses * motion.velocities, axis=0)
    assert np.abs(momentum).max() < 1e-9


def test_thermostat_alone_samples_velocities_of_the_temperature():
    """Without forces, the velocities are independent samples after some relaxation times."""
    integrator, motion, _, random = begin("nvt", timestep=200.0)
    motion.forces[:] = 0
    kinetic = []
    for _ in range(3000):
        integrator.before_forces(motion, random)
        kinetic.append(integrator.kinetic_energy(motion.velocities))
    expected = 93 / 2 * units.kB * 300
    assert np.mean(kinetic) == pytest.approx(expected, rel=0.01)
    assert np.std(kinetic) == pytest.approx(expected * np.sqrt(2 / 93), rel=0.06)


def test_the_barostat_samples_the_volume_of_an_ideal_gas():
    """⟨V⟩ = (N + 1) k_B T / P in NPT, here with N - 1 for N since the centre of mass rests."""
    integrator, motion, _, random = begin("npt-iso", timestep=20.0, pressure=1000.0)
    n = len(motion.positions)
    expected = n * integrator.thermal / integrator.pressure
    motion.cell = np.eye(3) * expected ** (1 / 3)
    motion.forces[:], motion.virial[:] = 0, 0
    volumes = []
    for _ in range(15_000):
        integrator.before_forces(motion, random)
        integrator.after_forces(motion)
        volumes.append(motion.volume)
    assert np.mean(volumes[1000:]) == pytest.approx(expected, rel=0.08)
    assert np.std(volumes[1000:]) == pytest.approx(expected / np.sqrt(n), rel=0.25)
