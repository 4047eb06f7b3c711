"""GPAW and CP2K themselves: consistent, agreeing with each other, and telling when they fail."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ionloop.codes.common.acceptance import Calculated, accept
from ionloop.codes.cp2k.settings import Cp2kSettings
from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.geometry.periodic import supercell
from ionloop.geometry.perturb import perturb
from ionloop.preflight.codes.base import look_at_code
from ionloop.programs.process import ProgramError
from ionloop.runfile.sections.cp2k import Cp2kSection
from ionloop.runfile.sections.gpaw import GpawSection
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array

pytestmark = pytest.mark.integration

CORES = 2
# Aluminium phosphide, zincblende: soft in both programs, so that a small grid is exact.
FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
ALP = Frames(
    ("Al",) * 4 + ("P",) * 4,
    5.4 * np.concatenate([FCC, FCC + 0.25])[None],
    5.4 * np.eye(3)[None],
)
FRAME = perturb(ALP, 1, displacement=0.15, strain=0.02, seed=3)


@dataclass(frozen=True)
class Program:
    """A DFT program with settings for aluminium phosphide."""

    settings: GpawSettings | Cp2kSettings
    section: Callable[..., Any]

    def calculate(self, frame: Frames, folder: Path, **changes: Any) -> Calculated:
        return self.settings.model_copy(update=changes).calculate(frame, folder, CORES)


def _gpaw(command: str) -> Program:
    settings = GpawSettings(command=command, cutoff=400, kpoints="gamma", energy_convergence=1e-6)
    return Program(settings, GpawSection)


def _cp2k(command: str) -> Program:
    settings = Cp2kSettings(command=command, cutoff=300, kpoints="gamma")
    return Program(settings, Cp2kSection)


MAKE = {"IONLOOP_TEST_GPAW": _gpaw, "IONLOOP_TEST_CP2K": _cp2k}


def program_named(variable: str) -> Program:
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set to the program's command")
    return MAKE[variable](os.environ[variable])


@pytest.fixture(params=MAKE)
def program(request: pytest.FixtureRequest) -> Program:
    return program_named(request.param)


def moved(positions: Array, cell: Array) -> Frames:
    return replace(FRAME, positions=positions[None], cells=cell[None])


@pytest.mark.slow
def test_a_force_is_minus_the_gradient_of_the_energy(program: Program, tmp_path: Path) -> None:
    atom, axis, step = 2, 1, 0.01
    energies = []
    for sign in (1, -1):
        positions = FRAME.positions[0].copy()
        positions[atom, axis] += sign * step
        frame = moved(positions, FRAME.cells[0])
        energies.append(program.calculate(frame, tmp_path / f"moved{sign}").energy)
    numeric = -(energies[0] - energies[1]) / (2 * step)
    force = program.calculate(FRAME, tmp_path).forces[atom, axis]
    assert abs(force) > 0.1
    assert force == pytest.approx(numeric, abs=0.005)


@pytest.mark.slow
def test_the_virial_is_minus_the_strain_derivative_of_the_energy(
    program: Program, tmp_path: Path
) -> None:
    # The basis of plane waves changes with the cell at a fixed cut-off: hence the larger margin.
    step, energies = 0.005, []
    for sign in (1, -1):
        deformation = np.diag([1 + sign * step, 1, 1])
        frame = moved(FRAME.positions[0] @ deformation, FRAME.cells[0] @ deformation)
        energies.append(program.calculate(frame, tmp_path / f"strained{sign}").energy)
    numeric = -(energies[0] - energies[1]) / (2 * step)
    virial = program.calculate(FRAME, tmp_path).virial
    assert virial is not None
    assert abs(virial[0, 0]) > 1.0
    assert virial[0, 0] == pytest.approx(numeric, abs=0.3)


QUICK: dict[str, dict[str, Any]] = {
    "gpaw": {"cutoff": 200},
    "cp2k": {"cutoff": 150, "relative_cutoff": 40, "basis": "SZV-MOLOPT-SR-GTH"},
}


@pytest.mark.slow
def test_a_cell_and_its_supercell_have_one_label_by_default(
    program: Program, tmp_path: Path
) -> None:
    cell = 2.7 * (np.ones((3, 3)) - np.eye(3))
    primitive = Frames(("Al", "P"), np.array([[[0, 0, 0], [1.45, 1.35, 1.35]]]), cell[None])
    quick = QUICK[program.settings.level.code]
    for kpoints, consistent in ((type(program.settings)().kpoints, True), ("gamma", False)):
        small, large = (
            program.calculate(frame, tmp_path / frame.formula, kpoints=kpoints, **quick)
            for frame in (primitive, supercell(primitive, (2, 1, 1)))
        )
        assert large.virial is not None and small.virial is not None
        energies = abs(large.energy - 2 * small.energy) / 2
        forces = np.abs(large.forces - np.repeat(small.forces, 2, axis=0)).max()
        virials = np.abs(large.virial - 2 * small.virial).max() / 2
        if consistent:
            assert energies < 1e-3 and forces < 1e-3 and virials < 1e-2
        else:
            assert energies > 1 and forces > 0.05 and virials > 1


@pytest.mark.slow
def test_the_two_programs_agree(tmp_path: Path) -> None:
    first = program_named("IONLOOP_TEST_GPAW").calculate(FRAME, tmp_path / "gpaw")
    second = program_named("IONLOOP_TEST_CP2K").calculate(FRAME, tmp_path / "cp2k")
    assert first.virial is not None and second.virial is not None
    assert np.sqrt(np.mean((first.forces - second.forces) ** 2)) < 0.1
    assert np.abs(first.virial - second.virial).max() < 0.6


def test_too_few_electronic_steps_are_unconverged(program: Program, tmp_path: Path) -> None:
    quick = {"cutoff": 300}
    result = program.calculate(FRAME, tmp_path, max_scf_steps=2, **quick)
    level = program.settings.level
    label = accept(FRAME, result, level, program.settings.limits)
    assert label.reason == "unconverged"


def test_a_time_limit_ends_every_rank(program: Program, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"not through after 2 s"):
        program.calculate(FRAME, tmp_path, timeout=2)
    deadline = time.monotonic() + 10
    while left := ranks_in(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def ranks_in(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cwd", "status"])
        if process.info["cwd"] == str(folder) and process.info["status"] != "zombie"
    ]


def test_atoms_on_top_of_each_other_cost_one_frame(program: Program, tmp_path: Path) -> None:
    positions = FRAME.positions[0].copy()
    positions[1] = positions[0] + 1e-4
    frame = moved(positions, FRAME.cells[0])
    settings = program.settings
    try:
        result = program.calculate(frame, tmp_path, cutoff=300, max_scf_steps=10, timeout=60)
    except ProgramError as error:
        assert "The end of" in str(error)  # either fate is sound
    else:
        level = settings.level
        assert accept(frame, result, level, settings.limits).reason is not None


def test_preflight_starts_the_program(program: Program) -> None:
    section = program.section(command=program.settings.command, cores=CORES)
    findings = list(look_at_code(section, ["Li", "Ge", "P", "S"]))
    assert [finding.level for finding in findings] == ["ok", "ok", "ok"], findings
    assert "for Li, Ge, P, S" in findings[1].sentence
    lacking = list(look_at_code(section, ["Li", "Cm"]))
    assert "Cm" in lacking[1].sentence
    assert lacking[1].level == "error"


def test_preflight_counts_the_ranks_of_gpaw() -> None:
    # CP2K tells its ranks only when it calculates.
    program = program_named("IONLOOP_TEST_GPAW")
    command = program.settings.command.replace("{cores}", "1")
    (finding,) = look_at_code(program.section(command=command, cores=CORES), ["Li"])
    assert "sees 1 MPI ranks where label.cores says 2" in finding.sentence
