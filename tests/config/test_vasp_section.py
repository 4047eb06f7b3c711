from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ionloop.config.codes import VaspSection
from ionloop.config.findings import Finding
from ionloop.makers.label_vasp import VaspLabelMaker


def section(**values: Any) -> VaspSection:
    return VaspSection.model_validate({"code": "vasp", "vasp_cmd": "sh vasp_std"} | values)


def found(findings: list[Finding], level: str) -> list[str]:
    return [f"{f.key}: {f.sentence}; {f.cure}" for f in findings if f.level == level]


def own(**values: Any) -> VaspSection:
    return section(**{"encut": 300, "kpoints": 0.5, "potcars": {"Au": "Au", "Cu": "Cu"}} | values)


def test_the_section_builds_the_maker() -> None:
    maker = section(preset="nasicon", cores=32, floor=0.8).maker()
    assert isinstance(maker, VaspLabelMaker)
    assert (maker.batch_size, maker.cores, maker.floor) == (1, 32, 0.8)
    assert maker.settings.preset == "nasicon"


def test_inputs_are_shown_before_anything_is_submitted(vasp: Any) -> None:
    findings = list(own().preflight(["Au", "Cu"]))
    assert found(findings, "error") == []
    shown = "\n".join(found(findings, "ok"))
    assert "INCAR: ALGO = Normal, EDIFF = 1e-06, ENCUT = 300.0, GGA = PE" in shown
    assert "KPOINTS: no file; KSPACING = 0.5 1/Å" in shown
    assert "POTCAR.spec: PBE_54: Au Cu" in shown
    assert "VASP is started by: sh vasp_std" in shown


def test_a_missing_potcar_is_an_error_that_names_it(vasp: Any) -> None:
    findings = list(own(potcars={"Au": "Au", "Cu": "Cu_pv"}).preflight(["Au", "Cu"]))
    (sentence,) = found(findings, "error")
    assert "the POTCAR of Cu_pv (PBE_54) is not in PMG_VASP_PSP_DIR" in sentence


def test_an_unset_folder_and_an_absent_program_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    from pymatgen.core import SETTINGS

    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", None)
    findings = list(section(preset="agi", vasp_cmd="no_such_vasp").preflight(["I"]))
    program, potcar = found(findings, "error")
    assert program.startswith("label.vasp_cmd: no_such_vasp is not on PATH")
    assert "PMG_VASP_PSP_DIR is not set" in potcar


def test_an_element_that_the_preset_lacks_is_an_error() -> None:
    (sentence,) = found(list(section(preset="agi").preflight(["Ag", "Cl"])), "error")
    assert sentence.startswith("label.potcars: no POTCAR is named for Cl")


def test_potcars_are_held_against_preset_and_cutoff(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vasp: Any
) -> None:
    from fake_potcars import write_potcars  # type: ignore[import-not-found]
    from pymatgen.core import SETTINGS

    folder = write_potcars(tmp_path, {"Ag": 17, "I": 7}, enmax=290)
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(folder))
    findings = list(section(preset="agi").preflight(["Ag", "I"]))
    (sentence,) = found(findings, "error")
    assert "the POTCAR of Ag (PAW_PBE Ag 01Jan2026) has 17 valence electrons, not 11" in sentence
    warnings = found(findings, "warning")
    assert sum("recommends a cut-off of 290 eV" in sentence for sentence in warnings) == 2
    assert sum("none of those that pymatgen knows" in sentence for sentence in warnings) == 2


def test_a_label_of_the_paper_costs_two_steps_of_its_aimd() -> None:
    seconds = section(preset="lgps").label_seconds(200)
    assert seconds == pytest.approx(2 * 693 * 3600 / 1000, rel=1e-3)


def test_the_vasp_labels_of_huang2021_are_those_of_the_preset() -> None:
    path = Path(__file__).parents[2] / "examples/lgps/huang2021.yaml"
    commented = path.read_text().partition("# label:\n")[2].partition("\n\n")[0]
    given = YAML(typ="safe", pure=True).load(
        commented.replace("#   ", "", 1).replace("\n#   ", "\n")
    )
    given_level = section(**given).maker().level
    potcars = {"Si": "Si", "Sn": "Sn_d"}  # of the preset's other materials
    whole = section(**given | {"potcars": given["potcars"] | potcars}).maker().level
    assert whole.hash == section(preset="li10mp2s12").maker().level.hash
    assert given_level.settings["POTCAR"] == "PBE_54 Ge_d Li_sv P S"
