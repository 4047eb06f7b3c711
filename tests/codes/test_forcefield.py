from __future__ import annotations

import sys
from dataclasses import replace
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ionloop.codes.common.acceptance import accept
from ionloop.codes.common.ase import RelaxationError, calculate, relax
from ionloop.codes.forcefield.model import calculator, covered_elements
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.geometry.perturb import perturb
from ionloop.programs.errors import MissingExtraError, ProgramNotFoundError
from ionloop.schemas.frames import Frames

EMT = "ase.calculators.emt:EMT"
COPPER = Frames(
    ("Cu", "Cu", "Au", "Cu"),
    np.array([[[0, 0, 0], [0, 1.9, 1.9], [1.9, 0, 1.9], [1.9, 1.9, 0.1]]]),
    np.array([np.diag([3.8, 3.8, 3.8])]),
)
HALVES = [[x, y, z] for x in (0.5, 1.5) for y in (0.5, 1.5) for z in (0.5, 1.5)]
FCC = [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]
LI2S = Frames(("Li",) * 8 + ("S",) * 4, 2.855 * np.array([HALVES + FCC]), 5.71 * np.eye(3)[None])
SULFIDE = perturb(LI2S, 1, displacement=0.2, strain=0.02, seed=1)
UNIVERSAL = ["7net-0", "7net-mf-0", "chgnet"]
universal = [pytest.param(model, marks=pytest.mark.integration) for model in UNIVERSAL]


def energy_of(settings, positions, cell, frame):
    moved = replace(frame, positions=positions[None], cells=cell[None])
    return calculate(calculator(settings), moved).energy


def frame_for(model):
    return COPPER if model == EMT else SULFIDE


@pytest.mark.parametrize("model", [EMT, *universal])
def test_forces_are_minus_the_gradient_of_the_energy(model):
    settings, frame = ForceFieldSettings(model=model), frame_for(model)
    forces = calculate(calculator(settings), frame).forces
    step = 0.02  # Å: single precision energies need it
    for atom, axis in [(0, 0), (3, 1), (-1, 2)]:
        energies = []
        for sign in (1, -1):
            positions = frame.positions[0].copy()
            positions[atom, axis] += sign * step
            energies.append(energy_of(settings, positions, frame.cells[0], frame))
        numeric = -(energies[0] - energies[1]) / (2 * step)
        assert forces[atom, axis] == pytest.approx(numeric, abs=0.01)
    assert abs(forces).max() > 0.1


@pytest.mark.parametrize("model", [EMT, *universal])
def test_virial_is_minus_the_strain_derivative_of_the_energy(model):
    settings, frame = ForceFieldSettings(model=model), frame_for(model)
    virial = calculate(calculator(settings), frame).virial
    for a, b in [(0, 0), (2, 2), (0, 1)]:
        energies = []
        for sign in (1, -1):
            deformation = np.eye(3)
            deformation[a, b] += sign * 0.002
            deformation[b, a] = deformation[a, b]
            energies.append(
                energy_of(
                    settings, frame.positions[0] @ deformation, frame.cells[0] @ deformation, frame
                )
            )
        numeric = -(energies[0] - energies[1]) / 0.004 / (1 if a == b else 2)
        assert virial[a, b] == pytest.approx(numeric, abs=0.03)
    assert abs(virial).max() > 0.5


@pytest.mark.parametrize("model", [EMT, *universal])
def test_a_frame_gives_the_same_label_again(model):
    settings, frame = ForceFieldSettings(model=model), frame_for(model)
    first = calculate(calculator(settings), frame)
    calculate(calculator(settings), perturb(frame, 1, 0.1, seed=5))
    again = calculate(calculator(settings), frame)
    assert again.energy == pytest.approx(first.energy, abs=1e-5)
    assert again.forces == pytest.approx(first.forces, abs=1e-5)


@pytest.mark.parametrize("model", [EMT, *universal])
def test_a_label_is_accepted_with_the_level(model):
    settings, frame = ForceFieldSettings(model=model), frame_for(model)
    level = settings.level
    doc = accept(frame, calculate(calculator(settings), frame), level, settings.limits)
    assert doc.status == "accepted"
    assert doc.frame.level == level.hash
    assert doc.seconds > 0


def test_a_calculator_without_stress_gives_no_virial():
    from ase.calculators.morse import MorsePotential

    class Stressless(MorsePotential):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012

        def get_property(self, name, atoms=None, allow_calculation=True):
            return self._refuse(name) or super().get_property(name, atoms, allow_calculation)

        def _refuse(self, name):
            from ase.calculators.calculator import PropertyNotImplementedError

            if name not in self.implemented_properties:
                raise PropertyNotImplementedError(name)

    assert calculate(Stressless(), COPPER).virial is None
    assert calculate(MorsePotential(), COPPER).virial is not None


def test_an_unknown_element_raises():
    frame = replace(COPPER, symbols=("Li", "Cu", "Au", "Cu"))
    with pytest.raises(NotImplementedError, match="Li"):
        calculate(calculator(ForceFieldSettings(model=EMT)), frame)


def test_one_frame_at_a_time():
    with pytest.raises(ValueError, match="one frame, got 2"):
        calculate(calculator(ForceFieldSettings(model=EMT)), COPPER[[0, 0]])


def test_a_model_is_loaded_once():
    settings = ForceFieldSettings(model=EMT)
    assert calculator(settings) is calculator(ForceFieldSettings(model=EMT, relax_steps=7))
    assert calculator(settings) is not calculator(
        ForceFieldSettings(model=EMT, options={"asap_cutoff": True})
    )


def test_relaxation_of_cell_and_positions():
    settings = ForceFieldSettings(model=EMT, relax_fmax=0.01)
    relaxed = relax(calculator(settings), perturb(COPPER, 1, 0.05, 0.02), settings)
    result = calculate(calculator(settings), relaxed)
    assert abs(result.forces).max() < 0.011
    assert abs(result.virial).max() < 0.05
    assert relaxed.snapped() == relaxed
    assert not relaxed.is_labelled


def test_relaxation_of_positions_alone_keeps_the_cell():
    settings = ForceFieldSettings(model=EMT)
    relaxed = relax(calculator(settings), COPPER, settings, cell=False)
    assert np.array_equal(relaxed.cells, COPPER.cells)
    assert relaxed != COPPER


def test_an_unfinished_relaxation_says_so():
    settings = ForceFieldSettings(model=EMT, relax_steps=1, relax_fmax=1e-4)
    with pytest.raises(RelaxationError, match=r"Cu3Au1 did not relax to 0\.0001 eV/Å within 1"):
        relax(calculator(settings), COPPER, settings)


def test_level_holds_what_decides_a_label_and_nothing_else():
    base = ForceFieldSettings().level
    assert base.settings == {"model": "7net-0", "version": metadata.version("sevenn")}
    same = ForceFieldSettings(device="cuda", relax_steps=3, relax_fmax=0.2)
    assert same.level.hash == base.hash
    others: list[dict[str, Any]]
    others = [{"model": "7net-l3i5"}, {"options": {"modal": "x"}}, {"model": "chgnet"}]
    for other in others:
        assert ForceFieldSettings(**other).level.hash != base.hash
    assert ForceFieldSettings(model="7net-mf-0").level.settings["options"] == {"modal": "PBE"}


def test_level_holds_the_checkpoint_by_content(tmp_path):
    def level(path, content):
        path.write_bytes(content)
        return ForceFieldSettings(checkpoint=path).level.hash

    first = level(tmp_path / "a.pth", b"one")
    assert level(tmp_path / "b.pth", b"one") == first
    assert level(tmp_path / "a.pth", b"two") != first
    with pytest.raises(FileNotFoundError, match="check the checkpoint's path"):
        _ = ForceFieldSettings(checkpoint=tmp_path / "absent").level


FACTORY = """
from ase.calculators.morse import MorsePotential

def make(path, device, **options):
    calculator = MorsePotential(**options)
    calculator.told = (path, device)
    return calculator
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    path = tmp_path / "own_labeller_module.py"
    path.write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("own_labeller_module", None)


def test_an_import_path_gets_options_checkpoint_and_device(own_module):
    checkpoint = own_module.with_name("model.bin")
    checkpoint.write_bytes(b"weights")
    options = {"path": "{checkpoint}", "device": "{device}", "epsilon": 2.0}
    settings = ForceFieldSettings(
        model="own_labeller_module:make", checkpoint=checkpoint, options=options
    )
    own = calculator(settings)
    assert own.told == (str(checkpoint), "cpu")  # type: ignore[attr-defined]
    assert own.parameters["epsilon"] == 2.0
    assert covered_elements(settings) is None
    before = settings.level
    assert str(checkpoint) not in before.model_dump_json()
    own_module.write_text(FACTORY + "# edited")
    assert settings.level.hash != before.hash


def test_a_dotted_path_is_an_import_path_too():
    assert type(calculator(ForceFieldSettings(model="ase.calculators.emt.EMT"))).__name__ == "EMT"


@pytest.mark.parametrize("model", ["7-net", "mace", "a b.c:d", ""])
def test_unknown_models_are_refused(model):
    with pytest.raises(ValidationError, match="is no known model; use 7net-0"):
        ForceFieldSettings(model=model)


@pytest.mark.parametrize("model", ["no_such_package.module:make", "ase.calculators.emt:NoSuch"])
def test_import_paths_that_lead_nowhere(model):
    with pytest.raises(ValueError, match="cannot be imported"):
        calculator(ForceFieldSettings(model=model))


def test_a_checkpoint_that_nothing_takes_is_refused():
    with pytest.raises(ValidationError, match=r"no option of .* takes it"):
        ForceFieldSettings(model=EMT, checkpoint=Path("x.model"))


@pytest.mark.parametrize(("model", "package"), [("7net-0", "sevenn"), ("chgnet", "chgnet")])
def test_a_missing_extra_is_named(monkeypatch, model, package):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(metadata, "version", absent)
    settings = ForceFieldSettings(model=model, options={"unused": 1})
    for step in (attrgetter("level"), calculator):
        with pytest.raises(MissingExtraError, match=r"pip install 'ionloop\[forcefield\]'") as told:
            step(settings)
        assert f"labelling with {model} needs the package '{package}'" in str(told.value)


def test_a_missing_program_is_named():
    error = ProgramNotFoundError("lmp", "run: pip install 'ionloop[deepmd]'")
    assert str(error) == (
        "the program 'lmp' was not found on PATH; run: pip install 'ionloop[deepmd]'"
    )


@pytest.mark.integration
@pytest.mark.parametrize("model", UNIVERSAL)
def test_covered_elements(model):
    covered = covered_elements(ForceFieldSettings(model=model))
    assert len(covered) == 89
    assert {"Li", "Ge", "P", "S", "Cl", "I", "Pu"} <= covered
    assert not {"Po", "Ra", "X", "Cm"} & covered


@pytest.mark.integration
def test_sevennet_takes_a_checkpoint_and_a_fidelity():
    import sevenn

    folder = Path(sevenn.__file__).parent / "pretrained_potentials" / "SevenNet_0__11Jul2024"
    settings = ForceFieldSettings(checkpoint=folder / "checkpoint_sevennet_0.pth")
    bundled = calculate(calculator(ForceFieldSettings()), SULFIDE)
    loaded = calculate(calculator(settings), SULFIDE)
    assert loaded.energy == pytest.approx(bundled.energy, abs=1e-5)
    with pytest.raises(ValueError, match="unknown modal"):
        calculator(ForceFieldSettings(model="7net-mf-0", options={"modal": "nope"}))


@pytest.mark.integration
def test_one_torch_thread_is_used():
    import torch

    torch.set_num_threads(2)
    calculator.__globals__["_LOADED"].clear()
    calculator(ForceFieldSettings(model="chgnet"))
    assert torch.get_num_threads() == 1
