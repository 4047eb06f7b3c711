from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ionloop.jobs.label.ledger import Ledger
from ionloop.jobs.label.vasp import VaspLabelMaker
from ionloop.preflight.codes.base import label_seconds, look_at_code
from ionloop.preflight.findings import Finding
from ionloop.preflight.inputs import Inputs
from ionloop.preflight.store import look_at_store
from ionloop.runfile.model import RunFile
from ionloop.runfile.sections.vasp import VaspSection
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, LabelStatus
from ionloop.stores.connect import collection, open_store


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
    findings = list(look_at_code(own(), ["Au", "Cu"]))
    assert found(findings, "error") == []
    shown = "\n".join(found(findings, "ok"))
    assert "INCAR: ALGO = Normal, EDIFF = 1e-06, ENCUT = 300.0, GGA = PE" in shown
    assert "KPOINTS: no file; KSPACING = 0.5 1/Å" in shown
    assert "POTCAR.spec: PBE_54: Au Cu" in shown
    assert "VASP is started by: sh vasp_std" in shown


def test_a_missing_potcar_is_an_error_that_names_it(vasp: Any) -> None:
    findings = list(look_at_code(own(potcars={"Au": "Au", "Cu": "Cu_pv"}), ["Au", "Cu"]))
    (sentence,) = found(findings, "error")
    assert "the POTCAR of Cu_pv (PBE_54) is not in PMG_VASP_PSP_DIR" in sentence


def test_an_unset_folder_and_an_absent_program_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    from pymatgen.core import SETTINGS

    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", None)
    findings = list(look_at_code(section(preset="agi", vasp_cmd="no_such_vasp"), ["I"]))
    program, potcar = found(findings, "error")
    assert program.startswith("label.vasp_cmd: no_such_vasp is not on PATH")
    assert "PMG_VASP_PSP_DIR is not set" in potcar
    assert "or say it in label.potentials" in potcar


def test_the_check_prints_what_a_host_without_potcars_is_to_say(
    vasp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymatgen.core import SETTINGS

    (shown,) = [
        each for each in look_at_code(own(), ["Cu", "Au"]) if each.key == "label.potentials"
    ]
    text = shown.sentence.removeprefix("the labels are of ")
    potentials = YAML(typ="safe", pure=True).load(text)
    level = own().maker().level
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", None)
    host = own(potentials=potentials)
    findings = list(look_at_code(host, ["Au", "Cu"]))
    assert found(findings, "error") == []
    assert "the POTCAR of Cu is not on this host" in "\n".join(found(findings, "ok"))
    assert host.maker().level.hash == level.hash


def test_labels_of_the_version_before_are_reported_and_not_taken(
    tmp_path: Path, gold_copper: Frames
) -> None:
    """Version 0.1 kept them under the names of the POTCARs alone."""
    frame = gold_copper[0]
    label = LabelDoc(
        frame_id=frame.ids[0],
        level="03b4113656fd",
        status=LabelStatus.ACCEPTED,
        energy=-1.0,
        species=frame.species,
        n_atoms=frame.n_atoms,
        frame=frame,
    )
    given = {"structures": ["AuCu.vasp"], "store": str(tmp_path / "ionloop.db"), "label": own()}
    run_file = RunFile.model_validate(given)
    with closing(open_store(run_file.store)) as store:
        ledger = Ledger(collection(store, "labels"))
        ledger.record([label])
        assert ledger.find(frame.ids, own().maker().level) == {}
    (sentence,) = [f for f in look_at_store(run_file, Inputs()) if f.level == "warning"]
    assert sentence.sentence.startswith("1 labels of version 0.1 are not taken")
    assert "same_level: true" in sentence.cure


def test_potcars_of_this_host_are_held_against_those_that_the_run_file_names(vasp: Any) -> None:
    said = {"Au": {"title": "PAW_PBE Au 04Oct2007", "sha256": "0123456789ab"}}
    findings = list(look_at_code(own(potentials=said), ["Au"]))
    assert found(findings, "error") == []
    (sentence,) = [each for each in found(findings, "warning") if "potentials" in each]
    assert "of this host is PAW_PBE Au 01Jan2026, sha256" in sentence
    assert "the labels are of PAW_PBE Au 04Oct2007, sha256 0123456789ab" in sentence


def test_an_element_that_the_preset_lacks_is_an_error() -> None:
    (sentence,) = found(list(look_at_code(section(preset="agi"), ["Ag", "Cl"])), "error")
    assert sentence.startswith("label.potcars: no POTCAR is named for Cl")


def test_potcars_are_held_against_preset_and_cutoff(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vasp: Any
) -> None:
    from fake_potcars import write_potcars  # type: ignore[import-not-found]
    from pymatgen.core import SETTINGS

    folder = write_potcars(tmp_path, {"Ag": 17, "I": 7}, enmax=290)
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(folder))
    findings = list(look_at_code(section(preset="agi"), ["Ag", "I"]))
    (sentence,) = found(findings, "error")
    assert "the POTCAR of Ag (PAW_PBE Ag 01Jan2026) has 17 valence electrons, not 11" in sentence
    warnings = found(findings, "warning")
    assert sum("recommends a cut-off of 290 eV" in sentence for sentence in warnings) == 2
    assert sum("none of those that pymatgen knows" in sentence for sentence in warnings) == 2


def test_a_label_of_the_paper_costs_two_steps_of_its_aimd() -> None:
    seconds = label_seconds(section(preset="lgps"), 200)
    assert seconds == pytest.approx(2 * 693 * 3600 / 1000, rel=1e-3)


def test_the_vasp_labels_of_huang2021_are_those_of_the_preset() -> None:
    path = Path(__file__).parents[2] / "examples/lgps/huang2021.yaml"
    commented = path.read_text().partition("# label:\n")[2].partition("\n\n")[0]
    given = YAML(typ="safe", pure=True).load(
        commented.replace("#   ", "", 1).replace("\n#   ", "\n")
    )
    given_level = section(**given).maker().level
    # The spacing of the preset, made safe from strain.
    kept = {"kpoints": {"kept": 0.5}, "version": given["version"]}
    preset = section(preset="li10mp2s12", **kept).maker().level
    assert given_level.hash == preset.of(["Li", "Ge", "P", "S"]).hash
    assert {about["POTCAR"] for about in given_level.elements.values()} == {
        *("PBE_54 Ge_d", "PBE_54 Li_sv", "PBE_54 P", "PBE_54 S")
    }
