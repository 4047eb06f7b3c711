from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from ionloop.codes.common.acceptance import accept
from ionloop.codes.common.errors import OtherLevelError
from ionloop.codes.cp2k.calculation import calculate, probe
from ionloop.codes.cp2k.data import missing_kinds
from ionloop.codes.cp2k.inputs import input_file
from ionloop.codes.cp2k.output import read_output
from ionloop.codes.cp2k.settings import Cp2kSettings
from ionloop.programs.process import ProgramError
from ionloop.schemas.frames import Frames

DFT = Path(__file__).parents[1] / "dft"
LIF = Frames(
    ("Li",) * 4 + ("F",) * 4,
    2.0 * np.array([[[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]]),
    4.0 * np.eye(3)[None],
)
BASIS = """
 Li DZVP-MOLOPT-SR-GTH DZVP-MOLOPT-SR-GTH-q3
 1
 2 0 2 5 3 2 1
      8.300877000000   -0.053752000000
F SZV-MOLOPT-GTH
# F DZVP-MOLOPT-SR-GTH
"""


def settings(misdeed="none", **given):
    return Cp2kSettings(command=f"{sys.executable} {DFT / 'stand_in_cp2k.py'} {misdeed}", **given)


def test_numbers_and_units_of_a_real_output():
    energy, forces, stress = read_output((DFT / "lif.cp2k.out").read_text())
    assert energy == pytest.approx(-127.452855077152734 * 27.211386, abs=1e-3)
    assert forces.shape == (8, 3)
    assert forces[7] == pytest.approx([-0.82172, 0.12414, -0.13948], abs=1e-5)
    # Printed: -5.3656 GPa; ASE's sign is the opposite one, and 1 eV/Å³ is 160.2177 GPa.
    assert stress[0, 0] == pytest.approx(5.36560389341 / 160.21766, rel=1e-6)
    assert stress[0, 1] == stress[1, 0] == pytest.approx(0.615242268418 / 160.21766, rel=1e-6)


def in_columns(numbers) -> str:
    return " ".join(f"{x:15.8E}" for x in numbers)


def as_2026(recorded: str) -> str:
    """The recorded calculation as CP2K 2026 prints it: other tables, the stress in bar."""
    text = recorded.replace("energy [a.u.]:             ", "energy [hartree]            ")
    before, _, rest = text.partition(" ATOMIC FORCES in [a.u.]")
    table, _, after = rest.partition(" SUM OF ATOMIC FORCES")
    forces = [[float(x) for x in line.split()[3:]] for line in table.splitlines()[3:]]
    rows = [
        " FORCES| Atomic forces [hartree/bohr]",
        " FORCES|   Atom     x               y               z               |f|",
        *(
            f" FORCES| {n:6d} {in_columns(force)}  {np.linalg.norm(force):15.8E}"
            for n, force in enumerate(forces, 1)
        ),
        f" FORCES| Sum    {in_columns(np.sum(forces, axis=0))}",
        " FORCES| Total atomic force                                   6.23111000E-03",
    ]
    after = re.sub(r"([-+]?\d\.\d{11})E\+00", r"\1E+04", after.partition("\n")[2])
    after = re.sub(r"([-+]?\d\.\d{11})E-01", r"\1E+03", after)
    return before + "\n".join(rows) + "\n" + after.replace("[GPa]", "[bar]")


def test_the_tables_of_2025_and_later_are_read_like_those_before():
    recorded = (DFT / "lif.cp2k.out").read_text()
    later = as_2026(recorded)
    assert "FORCES|      8 -1.59799800E-02" in later and "ATOMIC FORCES" not in later
    assert "-5.36560389341E+04" in later
    for number, same in zip(read_output(later), read_output(recorded), strict=True):
        assert np.allclose(number, same, rtol=1e-12)  # type: ignore[arg-type]


def test_the_stress_is_never_read_in_an_unknown_unit():
    text = (DFT / "lif.cp2k.out").read_text().replace("[GPa]", "[Pa]")
    with pytest.raises(ProgramError, match="stress in Pa; known: GPa, kbar, bar"):
        read_output(text)


@pytest.mark.parametrize(
    ("gone", "words"),
    [("ENERGY|", "energy"), ("ATOMIC FORCES", "forces"), ("STRESS| Analy", "stress tensor")],
)
def test_what_is_missing_is_named(gone, words):
    text = (DFT / "lif.cp2k.out").read_text().replace(gone, "gone")
    with pytest.raises(ProgramError, match=f"lacks .*{words}; was it cut short"):
        read_output(text)


def test_a_label_is_accepted(tmp_path):
    result = calculate(settings(), LIF, tmp_path, cores=2)
    assert result.virial[0, 0] == pytest.approx(-64 * 5.36560389341 / 160.21766, rel=1e-6)
    label = accept(LIF, result, settings().level, settings().limits)
    assert label.status == "accepted"


def test_unconverged_is_rejected_although_cp2k_aborts(tmp_path):
    result = calculate(settings("unconverged"), LIF, tmp_path, cores=2)
    label = accept(LIF, result, settings().level, settings().limits)
    assert label.reason == "unconverged"


@pytest.mark.parametrize(
    ("misdeed", "words"),
    [
        ("crash", "exit status 1: .*not idempotent"),
        ("cut", "lacks analytical stress tensor"),
    ],
)
def test_no_answer_raises_with_the_end_of_the_output(tmp_path, misdeed, words):
    with pytest.raises(ProgramError, match=f"(?s){words}"):
        calculate(settings(misdeed), LIF, tmp_path, cores=2)


def test_a_hang_ends_within_the_time_limit(tmp_path):
    with pytest.raises(ProgramError, match="not through after 2 s"):
        calculate(settings("hang", timeout=2), LIF, tmp_path, cores=2)


def test_another_version_or_number_of_ranks_is_refused(tmp_path):
    with pytest.raises(OtherLevelError, match=r"CP2K is 2023\.1.*label\.version says 2025"):
        calculate(settings(version="2025"), LIF, tmp_path, cores=2)
    with pytest.raises(ProgramError, match=r"sees 2 MPI ranks where label\.cores says 4"):
        calculate(settings(), LIF, tmp_path, cores=4)


def test_the_probe_finds_version_and_data(monkeypatch):
    monkeypatch.delenv("CP2K_DATA_DIR", raising=False)
    assert probe(settings()) == ("2023.1", Path("/data/of/cp2k"))
    monkeypatch.setenv("CP2K_DATA_DIR", "/elsewhere")
    assert probe(settings())[1] == Path("/elsewhere")


def test_missing_basis_sets_and_pseudopotentials_are_named(tmp_path):
    (tmp_path / "BASIS_MOLOPT").write_text(BASIS)
    (tmp_path / "GTH_POTENTIALS").write_text("Li GTH-PBE-q3 GTH-PBE\n 3\nF GTH-PBE-q7\n")
    assert missing_kinds(settings(), ["Li", "F"], tmp_path) == {
        "basis set": ["F DZVP-MOLOPT-SR-GTH"],
        "pseudopotential": ["F GTH-PBE"],
    }
    own = settings(kinds={"F": {"basis": "SZV-MOLOPT-GTH", "potential": "GTH-PBE-q7"}})
    assert not any(missing_kinds(own, ["Li", "F"], tmp_path).values())
    with pytest.raises(FileNotFoundError, match=r"label\.basis_files"):
        missing_kinds(settings(basis_files=["ABSENT"]), ["Li"], tmp_path)


def lines(frame: Frames = LIF, **given) -> list[str]:
    asked = Cp2kSettings(**{"kpoints": "gamma"} | given)
    return [line.strip() for line in input_file(asked, frame).splitlines()]


def test_the_input_asks_for_all_that_is_read():
    text = lines()
    for wanted in (
        "RUN_TYPE ENERGY_FORCE",
        "STRESS_TENSOR ANALYTICAL",
        "&FORCES",
        "&XC_FUNCTIONAL PBE",
    ):
        assert wanted in text
    assert "A 4.000000000000 0.000000000000 0.000000000000" in text
    assert "F 2.000000000000 2.000000000000 2.000000000000" in text
    assert text.count("BASIS_SET DZVP-MOLOPT-SR-GTH") == 2
    sections = [line for line in text if line.startswith("&")]
    opened = [line for line in sections if not line.startswith("&END")]
    assert len(sections) == 2 * len(opened)


def test_smearing_and_kpoints_need_diagonalisation():
    assert "&OT" in lines()
    assert "&OT" not in lines(smearing=0.1)
    assert "ELECTRONIC_TEMPERATURE 1160.4518" in lines(smearing=0.1)
    assert "&SMEAR" not in lines(kpoints=(2, 1, 1))
    assert "SCHEME MACDONALD 2 1 3 0.25 0 0" in lines(kpoints=(2, 1, 3))


def test_spin_and_electronic_steps():
    assert "UKS .TRUE." in lines(spin_polarised=True)
    text = lines(max_scf_steps=50)
    assert text.count("MAX_SCF 20") == 1
    assert text.count("MAX_SCF 2") == 1
    assert "MAX_SCF 7" in lines(max_scf_steps=7)
    assert "MAX_SCF 0" in lines(max_scf_steps=7)


def test_a_small_cell_has_kpoints_without_being_asked():
    assert "SCHEME MACDONALD 5 5 5 0 0 0" in lines(kpoints=Cp2kSettings().kpoints)


def level(**given):
    return Cp2kSettings(**given).level


def test_level_holds_what_decides_a_label_and_nothing_else():
    assert level(timeout=9, max_scf_steps=9, command="x").hash == level().hash
    for other in (
        {"cutoff": 500},
        {"relative_cutoff": 50},
        {"basis": "TZVP-MOLOPT-GTH"},
        {"basis_files": ["BASIS_MOLOPT_UCL"]},
        {"potential": "GTH-PBE-q4"},
        {"potential_file": "POTENTIAL_UZH"},
        {"kinds": {"Ge": {"basis": "x"}}},
        {"xc": "BLYP"},
        {"kpoints": (2, 1, 1)},
        {"kpoints": "gamma"},
        {"smearing": 0.1},
        {"empty_orbitals": 40},
        {"scf_convergence": 1e-7},
        {"precision": 1e-14},
        {"version": "2024.1"},
        {"spin_polarised": True},
    ):
        assert level(**other).hash != level().hash, other


def test_empty_orbitals_count_only_where_there_are_any():
    few, many = ({"kpoints": "gamma", "empty_orbitals": n} for n in (20, 40))
    assert level(**few).hash == level(**many).hash
    assert level(**few, smearing=0.1).hash != level(**many, smearing=0.1).hash


def test_a_kind_of_an_element_that_the_frame_has_not_is_not_in_its_key():
    doped = level(kinds={"Ge": {"basis": "x"}, "Li": {"potential": "GTH-PBE"}})
    assert doped.of(["Li", "S"]).hash == level().of(["Li", "S"]).hash
    assert doped.of(["Ge", "S"]).hash != level().of(["Ge", "S"]).hash


def test_files_named_by_their_paths_count_by_what_they_hold_of_the_frame(tmp_path):
    def of_lithium(potential: str, other: str = "1", place: str = "own") -> str:
        file = tmp_path / place
        file.write_text(f"# ours\nLi GTH-PBE\n  {potential}\n#\nF GTH-PBE\n  {other}\n")
        return level(potential_file=str(file)).of(["Li", "S"]).hash

    assert of_lithium("3 0.40") != of_lithium("3 0.41")
    assert of_lithium("3 0.40") == of_lithium(" 3  0.40 # as published", other="2", place="moved")
    with pytest.raises(FileNotFoundError, match=r"label\.potential_file"):
        level(potential_file=str(tmp_path / "absent"))
