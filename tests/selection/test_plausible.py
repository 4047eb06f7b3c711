from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from ionloop.formats.ase import from_ase
from ionloop.formats.reading import read_frames
from ionloop.schemas.frames import Frames
from ionloop.selection.plausible import (
    crowded,
    doubts,
    impossible_energies,
    nearest_ratio,
    response,
)

DATA = Path(__file__).parents[3] / "shared" / "data" / "lgps_dpgen"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the published LGPS data is absent")
BOHR, HARTREE, KCAL = 0.529177, 27.211386, 0.0433641


@cache
def rattled(element: str = "Cu", size: float = 0.05, n: int = 12) -> Frames:
    images: list[Atoms] = []
    for seed in range(n):
        atoms = bulk(element, cubic=True) * (2, 2, 2)
        atoms.rattle(size, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        images.append(atoms)
    (frames,) = from_ase(images)
    return frames


def expressed(frames: Frames, length: float, energy: float, force: float) -> Frames:
    """Return the numbers that the frames have in units of so many Å, eV and eV/Å."""
    assert frames.energies is not None and frames.forces is not None
    return replace(
        frames,
        positions=frames.positions / length,
        cells=frames.cells / length,
        energies=frames.energies / energy,
        forces=frames.forces / force,
    )


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ((BOHR, HARTREE, HARTREE / BOHR), "lengths are like Bohr, not Å"),
        ((10.0, 1.0, 0.1), "lengths are like nm"),
        ((20.0, 1.0, 1.0), "lengths can hardly be in Å"),
        ((1.0, HARTREE, HARTREE / BOHR), "are like Hartree and Hartree/Bohr or Rydberg"),
        ((1.0, 1.0, HARTREE / BOHR), "are like eV and Hartree/Bohr, not eV and eV/Å"),
        ((1.0, KCAL, KCAL), "are like kcal/mol and kcal/mol/Å"),
        ((1.0, 1.0, -1.0), "are energies and gradients, whose sign"),
    ],
)
def test_other_units_are_recognised_by_their_numbers(units, words):
    frames = rattled()
    assert doubts([frames]) == []
    (sentence,) = doubts([expressed(frames, *units)])
    assert words in sentence


@pytest.mark.parametrize("element", ["Al", "Cu", "Ag", "Pt"])
@pytest.mark.parametrize("size", [0.01, 0.1, 0.2])
def test_what_is_right_is_not_doubted(element, size):
    assert doubts([rattled(element, size)]) == []


@needs_data
@pytest.mark.parametrize("folder", ["init", "iteration-0", "iteration-2"])
def test_the_published_data_are_doubted_only_in_other_units(folder):
    (frames,) = read_frames(DATA / folder, type_map=["Li", "Ge", "P", "S"])
    assert doubts([frames]) == []
    (lengths,) = doubts([expressed(frames, BOHR, HARTREE, HARTREE / BOHR)])
    assert "like Bohr" in lengths
    (forces,) = doubts([expressed(frames, 1.0, HARTREE, HARTREE / BOHR)])
    assert "Hartree/Bohr" in forces


def test_energies_follow_the_work_of_the_forces():
    found = response(rattled(size=0.02))
    assert found is not None and found.work is not None
    assert found.work == pytest.approx(1, abs=0.05)
    assert 3 < found.stiffness < 20


@pytest.mark.parametrize(
    ("structure", "ratio"), [("Cu", 0.97), ("Li", 1.18), ("Pb", 1.20), ("Si", 1.06)]
)
def test_the_nearest_atoms_of_solids_are_at_their_covalent_radii(structure, ratio):
    (frames,) = from_ase([bulk(structure)])
    assert nearest_ratio(frames) == pytest.approx(ratio, abs=0.02)


def test_nothing_is_said_where_nothing_can_be_told():
    (argon,) = from_ase([bulk("Ar", "fcc", a=5.3)])
    assert np.isnan(nearest_ratio(argon))
    assert doubts([argon]) == []
    box = Atoms("Cu2", [[0, 0, 0], [9, 9, 9]], cell=[18, 18, 18], pbc=True)
    assert doubts(from_ase([box, Atoms("Cu", cell=[15, 15, 15], pbc=True)])) == []
    one = rattled(n=1)
    assert doubts([one]) == []
    still = replace(rattled(), forces=np.zeros((12, 32, 3)), energies=np.zeros(12))
    assert doubts([still]) == []


def test_energies_that_no_atoms_have():
    frames = rattled(n=4)
    # 32 Cu: all electrons have -1.4 MeV
    energies = np.array([-1e9, 1e9, -1.4e6, -120.0])
    assert impossible_energies(replace(frames, energies=energies)).tolist() == [
        *(True, True),
        *(False, False),
    ]


def test_cells_denser_than_any_solid():
    (diamond,) = from_ase([bulk("C")])
    assert not crowded(diamond)[0]
    assert crowded(
        expressed(replace(diamond, energies=np.zeros(1), forces=np.zeros((1, 2, 3))), 20, 1, 1)
    )
