from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from ionloop.codes.common.acceptance import accept
from ionloop.codes.common.ase import calculate
from ionloop.codes.common.errors import OtherLevelError
from ionloop.codes.forcefield.model import calculator
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.codes.gpaw.calculation import SCRIPT, probe
from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.programs.errors import ProgramNotFoundError
from ionloop.programs.process import ProgramError

STAND_IN = Path(__file__).parents[1] / "dft" / "stand_in_gpaw.py"


def settings(misdeed="none", version="26.7.0", **given):
    return GpawSettings(command=f"{sys.executable} {STAND_IN} {misdeed} {version}", **given)


def test_a_label_holds_what_the_program_answered(gold_copper, tmp_path):
    frame = gold_copper[3]
    result = settings().calculate(frame, tmp_path / "frame", cores=2)
    emt = calculator(ForceFieldSettings(model="ase.calculators.emt:EMT"))
    expected = calculate(emt, frame)
    assert result.energy == pytest.approx(expected.energy, abs=1e-9)
    assert np.allclose(result.forces, expected.forces, atol=1e-9)
    assert np.allclose(result.virial, expected.virial, atol=1e-9)
    assert result.cores == 2
    assert result.seconds > 0
    level = settings().level
    assert accept(frame, result, level, settings().limits).status == "accepted"


def test_the_request_holds_the_level_of_theory(gold_copper, tmp_path):
    asked = settings(
        cutoff=340, kpoints=(2, 1, 1), smearing=0.1, max_scf_steps=44, options={"xc": "LDA"}
    )
    asked.calculate(gold_copper[0], tmp_path)
    request = json.loads((tmp_path / "request.json").read_text())
    assert (tmp_path / SCRIPT).is_file()
    assert request["atoms"]["positions"] == gold_copper.positions[0].tolist()
    assert request["parameters"] == {
        "mode": {"name": "pw", "ecut": 340},
        "xc": "LDA",
        "kpts": {"size": [2, 1, 1], "gamma": True},
        "symmetry": "off",
        "spinpol": False,
        "occupations": {"name": "fermi-dirac", "width": 0.1},
        "convergence": {"energy": 1e-5, "density": 1e-4},
        "maxiter": 44,
        "setups": {"default": "paw"},
    }


def test_magnetic_moments_go_with_spin(gold_copper, tmp_path):
    asked = settings(spin_polarised=True, magnetic_moments={"Cu": 0.5})
    asked.calculate(gold_copper[0], tmp_path)
    moments = json.loads((tmp_path / "request.json").read_text())["atoms"]["magmoms"]
    assert moments == [0.5 if s == "Cu" else 0.0 for s in gold_copper.symbols]


def test_unconverged_is_rejected_and_final(gold_copper, tmp_path):
    result = settings("unconverged").calculate(gold_copper[0], tmp_path)
    label = accept(gold_copper[0], result, settings().level, settings().limits)
    assert (label.status, label.reason) == ("rejected", "unconverged")


@pytest.mark.parametrize(
    ("misdeed", "words"),
    [
        ("crash", r"exit status 1: .*The end of .*a wave function was lost"),
        ("silent", r"GPAW ended with exit status 0"),
        ("ranks", r"sees 2 MPI ranks where label\.cores says 1.*by its full path"),
    ],
)
def test_no_answer_raises_with_the_end_of_the_log(gold_copper, tmp_path, misdeed, words):
    with pytest.raises(ProgramError, match=f"(?s){words}"):
        settings(misdeed).calculate(gold_copper[0], tmp_path)


def test_a_hang_ends_within_the_time_limit(gold_copper, tmp_path):
    with pytest.raises(ProgramError, match=r"(?s)not through after 3 s.*for the other rank"):
        settings("hang", timeout=3).calculate(gold_copper[0], tmp_path)


def test_the_answer_of_an_earlier_try_is_not_taken(gold_copper, tmp_path):
    settings().calculate(gold_copper[0], tmp_path)
    with pytest.raises(ProgramError):
        settings("silent").calculate(gold_copper[0], tmp_path)


def test_another_version_is_refused(gold_copper, tmp_path):
    settings(version="26.9").calculate(gold_copper[0], tmp_path)
    settings(version="26").calculate(gold_copper[0], tmp_path)
    with pytest.raises(OtherLevelError, match=r"GPAW is 25\.1.*label\.version says 26.*'25\.1'"):
        settings(version="25.1").calculate(gold_copper[0], tmp_path)
    with pytest.raises(OtherLevelError, match=r"260"):
        settings(version="260.1").calculate(gold_copper[0], tmp_path)


def test_k_points_have_one_key():
    with pytest.raises(ValueError, match="options: kpts is not set there: say kpoints"):
        GpawSettings(options={"kpts": {"size": (2, 2, 2)}})


def test_a_missing_program_names_the_cure(gold_copper, tmp_path):
    with pytest.raises(ProgramNotFoundError, match=r"install-gpaw\.sh"):
        GpawSettings(command="no-such-mpirun gpaw").calculate(gold_copper[0], tmp_path)


def test_the_probe_names_missing_setups(tmp_path):
    answer = probe(settings(), ["Cu", "Li", "S"], tmp_path, cores=2)
    assert (answer["version"], answer["ranks"]) == ("26.7.0", 2)
    assert answer["missing"] == ["Li", "S"]


def test_level_holds_what_decides_a_label_and_nothing_else():
    base = GpawSettings().level
    same = GpawSettings(
        command="x",
        timeout=5,
        relax_steps=3,
        max_scf_steps=9,
        options={"parallel": {"sl_auto": True}},
    )
    assert same.level.hash == base.hash
    for other in (
        {"cutoff": 520},
        {"xc": "PBEsol"},
        {"kpoints": (2, 1, 1)},
        {"kpoints": "gamma"},
        {"kpoints": 0.3},
        {"smearing": 0},
        {"version": "25"},
        {"setups_version": "1.0"},
        {"setups": {"Ge": "semicore"}},
        {"spin_polarised": True},
        {"density_convergence": 1e-6},
        {"energy_convergence": 1e-6},
        {"options": {"charge": 1}},
    ):
        assert GpawSettings(**other).level.hash != base.hash, other
    assert "cut-off 500 eV" in base.description


def test_a_setup_of_an_element_that_the_frame_has_not_is_not_in_its_key():
    plain = GpawSettings().level
    doped = GpawSettings(setups={"Ti": "4"}).level
    assert doped.of(["Li", "S"]).hash == plain.of(["Li", "S"]).hash
    assert doped.of(["Li", "Ti"]).hash != plain.of(["Li", "Ti"]).hash
    default = GpawSettings(setups={"default": "sg15"}).level
    assert default.of(["Li", "S"]).hash != plain.of(["Li", "S"]).hash


def test_a_moment_counts_with_spin_and_its_element_alone():
    without = GpawSettings(spin_polarised=True).level
    moment = GpawSettings(spin_polarised=True, magnetic_moments={"Fe": 2.0, "S": 0.0})
    level = moment.level
    assert level.of(["Fe", "O"]).hash != without.of(["Fe", "O"]).hash
    assert level.of(["Li", "S"]).hash == without.of(["Li", "S"]).hash
    unpolarised = GpawSettings(magnetic_moments={"Fe": 2.0}).level
    assert unpolarised.hash == GpawSettings().level.hash


# Hashes of version 0.1.0, whose keys held all elements of the settings.
BEFORE = [
    ({"kpoints": (1, 1, 1)}, "c0fd8cfc0307"),
    ({"k_spacing": 0.3, "setups": {"Ti": "4"}}, "b05a2898c768"),
    (
        {
            "kpoints": (2, 1, 1),
            "spin_polarised": True,
            "magnetic_moments": {"Fe": 2.0},
            "options": {"charge": 1},
        },
        "23af0a9c6a4a",
    ),
]


@pytest.mark.parametrize(("given", "key"), BEFORE)
def test_labels_of_the_version_before_are_found(given, key):
    level = GpawSettings(**given).level
    assert key in level.keys(["Li", "S"])
    assert key in level.keys(["Ti", "Fe"])


def test_wrong_values_are_refused():
    for wrong in ({"cutoff": -1}, {"kpoints": (0, 1, 1)}, {"smearing": -0.1}, {"cut_off": 3}):
        with pytest.raises(ValidationError):
            GpawSettings(**wrong)
