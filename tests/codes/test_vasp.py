from __future__ import annotations

import bz2
import json
import warnings
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.errors import OtherLevelError
from ionloop.codes.vasp.inputs import Arrangement, incar, requested_inputs
from ionloop.codes.vasp.level import doubtful_keys, in_words
from ionloop.codes.vasp.potcars import (
    MissingPotcarError,
    check_known,
    check_potcars,
    find_potential,
    pinned,
)
from ionloop.codes.vasp.presets import FORCE_LABELS, PRESETS, potcars
from ionloop.codes.vasp.settings import VaspSettings
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import Kept, mesh_of

# The papers' numbers: cut-off in eV, k-points, and per element the POTCAR and its electrons.
# Cut-off, Γ and valences of the first five: Miyagawa 2024, supporting information, section B.
PAPERS: dict[str, tuple[float, Any, dict[str, tuple[str, int]]]] = {
    "agi": (280, "gamma", {"Ag": ("Ag", 11), "I": ("I", 7)}),
    "lgps": (
        500,
        "gamma",
        {"Li": ("Li_sv", 3), "Ge": ("Ge_d", 14), "P": ("P", 5), "S": ("S", 6)},
    ),
    "na3sbs4": (400, "gamma", {"Na": ("Na_pv", 7), "Sb": ("Sb", 5), "S": ("S", 6)}),
    "na3sbs4-w": (
        400,
        "gamma",
        {"Na": ("Na_pv", 7), "Sb": ("Sb", 5), "S": ("S", 6), "W": ("W", 6)},
    ),
    "li10mp2s12": (
        500,
        0.5,
        {
            "Li": ("Li_sv", 3),
            "Ge": ("Ge_d", 14),
            "Si": ("Si", 4),
            "Sn": ("Sn_d", 14),
            "P": ("P", 5),
            "S": ("S", 6),
        },
    ),
    "nasicon": (
        520,
        0.5,
        {"Na": ("Na_pv", 7), "Zr": ("Zr_sv", 12), "Si": ("Si", 4), "P": ("P", 5), "O": ("O", 6)},
    ),
    "lpgso": (
        520,
        0.5,
        {
            "Li": ("Li_sv", 3),
            "Ge": ("Ge_d", 14),
            "Si": ("Si", 4),
            "P": ("P", 5),
            "S": ("S", 6),
            "O": ("O", 6),
        },
    ),
    "li3inybrcl": (
        520,
        0.5,
        {
            "Li": ("Li_sv", 3),
            "In": ("In_d", 13),
            "Y": ("Y_sv", 11),
            "Br": ("Br", 7),
            "Cl": ("Cl", 7),
        },
    ),
}
INCAR_OF_ALL = {
    "ALGO": "Normal",
    "EDIFF": 1e-6,
    "GGA": "Pe",
    "IBRION": -1,
    "ISIF": 2,
    "ISMEAR": 0,
    "ISPIN": 1,
    "ISYM": 0,
    "LASPH": True,
    "LCHARG": False,
    "LREAL": False,
    "LWAVE": False,
    "NELM": 100,
    "NELMIN": 4,
    "NSW": 0,
    "PREC": "Accurate",
    "SIGMA": 0.05,
}


def chain(elements: list[str], length: float = 12.0) -> Frames:
    """Return one atom of each element on the diagonal of a cubic cell."""
    places = np.linspace(0, length, len(elements), endpoint=False)
    positions = np.repeat(places[:, None], 3, axis=1)
    return Frames(tuple(elements), positions[None], np.eye(3)[None] * length)


def own(**values: Any) -> VaspSettings:
    return VaspSettings(
        **{"encut": 300, "kpoints": "gamma", "potcars": {"Au": "Au", "Cu": "Cu"}} | values
    )


KEYS_OF_0_1 = {  # as version 0.1 calculated them
    "220eb9f9d48b": {"preset": "lgps"},
    "dca578ed11ed": {"preset": "li10mp2s12"},
    "3b4378f83d7b": {"encut": 300, "kpoints": "gamma", "potcars": {"Au": "Au", "Cu": "Cu"}},
    "3a6a92c0cb58": {
        "encut": 300,
        "kpoints": "gamma",
        "potcars": {"Au": "Au", "Cu": "Cu"},
        "incar": {"ISYM": 2, "NBANDS": 20, "IVDW": 12},
    },
}


@pytest.mark.parametrize("key", KEYS_OF_0_1)
def test_the_key_of_the_version_before_is_known(key: str) -> None:
    settings = VaspSettings(**KEYS_OF_0_1[key])  # type: ignore[arg-type]
    assert doubtful_keys(settings) == [key]
    assert key not in settings.level.keys(potcars(settings))


def identity(title: str = "PAW_PBE Au 01Jan2026", sha256: str = "0123456789ab") -> dict[str, str]:
    return {"title": title, "sha256": sha256}


def test_every_preset_is_in_the_table() -> None:
    assert set(PAPERS) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_writes_the_inputs_of_the_papers(name: str) -> None:
    encut, kpoints, potentials = PAPERS[name]
    inputs = requested_inputs(VaspSettings(preset=name), chain(list(potentials)))
    tags = dict(inputs["INCAR"])
    tags.pop("LMAXMIX", None)  # set by pymatgen where there are d electrons; it decides no value
    mesh = {} if kpoints == "gamma" else {"KSPACING": kpoints, "KGAMMA": True}
    assert tags == INCAR_OF_ALL | {"ENCUT": encut} | mesh
    if kpoints == "gamma":
        assert inputs["KPOINTS"].kpts == [(1, 1, 1)]
        assert inputs["KPOINTS"].style.name == "Gamma"
    else:
        assert inputs["KPOINTS"] is None
    assert inputs["POTCAR.spec"].split() == [symbol for symbol, _ in potentials.values()]


@pytest.mark.parametrize("name", PRESETS)
def test_potcars_of_a_preset_have_the_valence_electrons_of_the_papers(name: str) -> None:
    """pymatgen ships the headers of every POTCAR of every release."""
    table = resources.files("pymatgen.io.vasp") / "potcar-summary-stats.json.bz2"
    known = json.loads(bz2.decompress(table.read_bytes()))["PBE_54"]
    valence = {entry["symbol"]: entry["ZVAL"] for group in known.values() for entry in group}
    preset = PRESETS[name]
    for element, (symbol, electrons) in PAPERS[name][2].items():
        assert preset.potcars[element] == (symbol, electrons)
        assert electrons == valence[symbol]


def test_half_an_inverse_angstrom_is_the_sampling_of_the_200_atom_cell() -> None:
    def mesh(a: float, b: float, c: float) -> list[int]:
        return [int(np.ceil(2 * np.pi / length / 0.5)) for length in (a, b, c)]

    assert mesh(17.18, 17.76, 12.97) == [1, 1, 1]
    assert mesh(17.18 / 2, 17.76 / 2, 12.97) == [2, 2, 1]


def test_an_explicit_mesh_and_a_kept_one_are_written_with_gamma() -> None:
    frame = chain(["Au", "Cu"], 4.0)
    for points in ([3, 2, 1], {"kept": 0.75}):
        settings = own(kpoints=points)
        inputs = requested_inputs(settings, frame)
        assert inputs["KPOINTS"].style.name == "Gamma"
        assert inputs["KPOINTS"].kpts == [mesh_of(settings.kpoints, frame)]
        assert "KSPACING" not in inputs["INCAR"]
    kept = own(kpoints=Kept(kept=0.75).of_starts([frame]))
    strained = replace(frame, cells=frame.cells * 1.05)
    assert mesh_of(0.75, strained) != mesh_of(0.75, frame) == (3, 3, 3)
    assert requested_inputs(kept, strained)["KPOINTS"].kpts == [(3, 3, 3)]
    assert "Au1Cu1 3×3×3" in kept.level.description


def test_without_a_preset_a_small_cell_has_kpoints_unasked() -> None:
    tags = incar(VaspSettings(encut=300))
    assert (tags["KSPACING"], tags["KGAMMA"]) == (0.35, True)


def test_a_user_replaces_and_removes_tags() -> None:
    settings = own(incar={"NELM": 60, "LASPH": None, "NCORE": 4})
    tags = incar(settings)
    assert (tags["NELM"], tags["NCORE"], tags["ENCUT"]) == (60, 4, 300)
    assert "LASPH" not in tags
    assert FORCE_LABELS["NELM"] == 100


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"preset": "nope"}, "no preset 'nope'; known: agi"),
        ({}, "without a preset, say encut"),
        ({"preset": "agi", "incar": {"ENCUT": 300}}, "ENCUT is not set there: say encut"),
        ({"preset": "agi", "incar": {"PSTRESS": 10}}, "an energy, not an enthalpy"),
        ({"preset": "agi", "incar": {"nelm": 10}}, "write NELM, not nelm"),
        ({"preset": "agi", "incar": {"ISMEAR": -5}}, "needs more than the Γ point"),
        ({"preset": "agi", "kpoints": -1}, "expected a spacing in 1/Å such as 0.35, a mesh"),
        ({"preset": "agi", "incar": {"NSW": 5}}, "NSW is not set there: a label is one ionic"),
        ({"preset": "agi", "incar": {"ICHARG": 11}}, "ICHARG = 11 is not self-consistent"),
        ({"preset": "agi", "incar": {"ALGO": "Exact"}}, "ALGO = Exact does not end in the self-"),
        ({"preset": "agi", "incar": {"ALGO": "none"}}, "ALGO = none does not end in the self-"),
        ({"preset": "agi", "incar": {"ALGO": "G0W0"}}, "ALGO = G0W0 does not end in the self-"),
        ({"preset": "agi", "incar": {"ALGO": "Eigenval"}}, "known: Normal, Fast, Veryfast, All"),
        ({"preset": "agi", "incar": {"IALGO": 90}}, "IALGO is not set there: say ALGO"),
        ({"preset": "agi", "incar": {"LSCAAWARE": True}}, r"LSCAAWARE .* for ALGO = Exact"),
        ({"preset": "agi", "incar": {"ML_LMLFF": True}}, "not from a force field"),
        ({"preset": "agi", "potentials": {"I": identity(sha256="12")}}, "should match pattern"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        VaspSettings(**values)


def test_one_level_has_one_hash_however_it_is_written() -> None:
    preset = VaspSettings(preset="agi")
    full = VaspSettings(encut=280.0, kpoints="gamma", potcars={"I": "I", "Ag": "Ag"})
    assert preset.level.hash == full.level.hash
    words = full.level.description
    assert words.startswith("vasp (version 6, ENCUT 280, k-points [1, 1, 1], EDIFF 1e-06")
    assert words.endswith("Ag PBE_54 Ag, I PBE_54 I)")  # there are no POTCARs here to look into
    written = VaspSettings(**full.model_dump() | {"kpoints": [1, 1, 1]})
    assert written.level.hash == full.level.hash


def test_two_releases_under_one_folder_name_are_two_levels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same title, and another potential: PBE_52 and PBE_54 have many such pairs."""
    hashes = []
    for release, last in (("one", 3.0), ("other", 4.0)):
        use_potcars(monkeypatch, tmp_path / release, last)
        hashes.append(own().level.hash)
        known = pinned(own()).potentials
        assert known is not None and known["Au"].title == "PAW_PBE Au 01Jan2026"
    assert len(set(hashes)) == 2


def use_potcars(monkeypatch: pytest.MonkeyPatch, folder: Path, last: float = 3.0) -> Path:
    from pymatgen.core import SETTINGS

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "vasp"))
    from fake_potcars import write_potcars  # type: ignore[import-not-found]

    write_potcars(folder, {"Au": 11, "Cu": 11}, last=last)
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(folder))
    return folder


def test_what_a_potcar_is_hangs_neither_on_white_space_nor_on_notes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = use_potcars(monkeypatch, tmp_path)
    before = find_potential("Au", "PBE_54").identity
    path = folder / "POT_GGA_PAW_PBE_54" / "Au" / "POTCAR"
    lines = path.read_text().splitlines()
    lines[3:3] = ["   SHA256 =  123", "   COPYR  = (c)"]
    path.write_bytes("\r\n".join([*lines, "  ", ""]).encode())
    assert find_potential("Au", "PBE_54").identity == before
    path.write_text("\n".join(lines[:8]))
    with pytest.raises(MissingPotcarError, match="it may be cut short"):
        find_potential("Au", "PBE_54")


def test_a_level_goes_where_its_settings_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_potcars(monkeypatch, tmp_path / "here")
    settings = pinned(own())
    use_potcars(monkeypatch, tmp_path / "there", last=4.0)
    there = VaspSettings.model_validate_json(settings.model_dump_json())
    assert pinned(there) == settings
    with pytest.raises(OtherLevelError, match="of this host is PAW_PBE Au 01Jan2026, sha256") as e:
        check_potcars(there, ["Au"])
    assert "let PMG_VASP_PSP_DIR name the same release on every host" in str(e.value)
    assert there.level.hash != own().level.hash


def test_potcars_that_nobody_has_or_says_buy_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    from pymatgen.core import SETTINGS

    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", None)
    with pytest.raises(MissingPotcarError, match=r"PMG_VASP_PSP_DIR is not set.*label\.potentials"):
        check_known(own(), ["Au"])
    said = own(potentials={"Au": identity()})
    check_known(said, ["Au"])
    with pytest.raises(MissingPotcarError, match=r"neither label\.potentials says it, nor was Cu"):
        check_known(said, ["Au", "Cu"])
    about = said.level.elements
    assert about == {"Au": identity(), "Cu": {"POTCAR": "PBE_54 Cu"}}


def test_a_dopant_in_the_settings_leaves_the_other_labels_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_potcars(monkeypatch, tmp_path)
    alone, doped = own(potcars={"Au": "Au"}), own()
    keys = [each.level.of(["Au"]).hash for each in (alone, doped)]
    assert len(set(keys)) == 1
    assert doped.level.of(["Au", "Cu"]).hash not in keys


def test_so_do_its_moment_and_its_hubbard_parameter() -> None:
    def key(moments: dict[str, float], *species: str) -> str:
        tags = {"ISPIN": 2, "LDAU": True, "LDAUU": {"Au": 4.0, **moments}, "MAGMOM": moments}
        return own(incar=tags).level.of(species).hash

    assert key({"Au": 5.0}, "Au") == key({"Au": 5.0, "Cu": 1.0}, "Au") != key({"Au": 4.0}, "Au")
    assert key({"Au": 5.0}, "Au", "Cu") != key({"Au": 5.0, "Cu": 1.0}, "Au", "Cu")
    words = own(incar={"MAGMOM": {"Au": 5.0}}).level.of(["Au"]).description
    assert words.endswith("MAGMOM 5.0)")
    nested = own(incar={"LDAUU": {"Cu": {"Au": 4.0}}})  # by the anion, as pymatgen reads it too
    assert "LDAUU" in nested.level.of(["Au"]).settings


@pytest.mark.parametrize(
    "change",
    [
        {"incar": {"ALGO": "Fast", "NELM": 40, "NCORE": 8, "LWAVE": True}},
        {"vasp_cmd": "srun vasp_std", "vasp_gamma_cmd": "srun vasp_gam", "max_errors": 1},
        {"incar": {"ISMEAR": 0.0, "PREC": "accurate"}},
        {"incar": {"ISYM": -1, "SYMPREC": 1e-6}},
        {"incar": {"ICHARG": 1, "ALGO": "D"}},
        {"frozen_after": 10.0},
    ],
)
def test_what_decides_no_value_leaves_the_level_alone(change: dict[str, Any]) -> None:
    assert own(**change).level.hash == own().level.hash


@pytest.mark.parametrize(
    "change",
    [
        {"encut": 301},
        {"kpoints": 0.5},
        {"kpoints": (2, 2, 1)},
        {"kpoints": {"kept": 0.5}},
        {"potcars": {"Au": "Au", "Cu": "Cu_pv"}},
        {"potcar_functional": "PBE_64"},
        {"potentials": {"Au": identity()}},
        {"version": "5.4.4"},
        {"incar": {"ISYM": 2}},
        {"incar": {"NBANDS": 20}},
        {"incar": {"LDIAG": False}},
        {"incar": {"GGA": "PS"}},
        {"incar": {"ISPIN": 2}},
        {"incar": {"EDIFF": 1e-5}},
        {"incar": {"IVDW": 12}},
    ],
)
def test_what_decides_a_value_is_another_level(change: dict[str, Any]) -> None:
    assert own(**change).level.hash != own().level.hash


def test_an_element_without_potcar_is_named() -> None:
    with pytest.raises(ValueError, match=r"named for Sn, Cl; say .* \{Sn: Sn\}"):
        requested_inputs(VaspSettings(preset="lgps"), chain(["Li", "Sn", "Cl"]))


@given(
    symbols=st.lists(st.sampled_from(["Li", "P", "S"]), min_size=1, max_size=12),
    hand=st.sampled_from([1, -1]),
    seed=st.integers(0, 1000),
)
def test_what_vasp_gets_comes_back_as_it_was(symbols: list[str], hand: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    n = len(symbols)
    cell = hand * (np.eye(3) * 8 + random.uniform(-1, 1, (3, 3)))
    frame = Frames(tuple(symbols), random.uniform(0, 8, (1, n, 3)), cell[None])
    arrangement = Arrangement.of(frame)
    given_to_vasp = arrangement.arrange(frame)
    assert np.linalg.det(given_to_vasp.cells[0]) > 0
    changes = sum(a != b for a, b in zip(given_to_vasp.symbols, given_to_vasp.symbols[1:]))  # noqa: B905
    assert changes == len(set(symbols)) - 1
    result = Calculated(
        energy=-1.0,
        forces=given_to_vasp.positions[0],
        positions=given_to_vasp.positions[0],
        cell=given_to_vasp.cells[0],
    )
    back = arrangement.restore(result)
    for array in (back.positions, back.forces):
        assert array is not None
        np.testing.assert_array_equal(array, frame.positions[0])
    np.testing.assert_array_equal(back.cell, cell)
    assert arrangement.restore_frame(given_to_vasp) == frame


def test_poscar_of_a_left_handed_cell_is_right_handed_and_keeps_every_digit() -> None:
    cell = np.array([[0, 5.123456, 0], [4.2, 0, 0], [0, 0, 6.0]])
    frame = Frames(
        ("Cu", "Au", "Cu"), np.array([[[0.1, 0.2, 0.3], [2, 2, 2], [1, 4, 5.0]]]), cell[None]
    )
    poscar = requested_inputs(own(), frame)["POSCAR"]
    assert poscar.site_symbols == ["Cu", "Au"]
    lattice = poscar.structure.lattice.matrix
    np.testing.assert_allclose(lattice, -cell)
    np.testing.assert_allclose(
        poscar.structure.cart_coords, -frame.positions[0][[0, 2, 1]], atol=1e-12
    )


def test_a_missing_potcar_is_named_with_the_place_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pymatgen.core import SETTINGS

    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", None)
    with pytest.raises(MissingPotcarError, match="PMG_VASP_PSP_DIR is not set"):
        find_potential("Li_sv", "PBE_54")
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(tmp_path))
    with pytest.raises(MissingPotcarError, match=r"POT_GGA_PAW_PBE_54/POTCAR\.Li_sv\.gz"):
        find_potential("Li_sv", "PBE_54")
    with pytest.raises(ValueError, match="no potcar_functional 'PBE_99'; known: PBE,"):
        find_potential("Li_sv", "PBE_99")


def test_a_potcar_is_read_and_one_that_nobody_knows_is_told(vasp: Any) -> None:
    from ionloop.codes.vasp.potcars import find_potential

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gold = find_potential("Au", "PBE_54")
    assert gold.identity.title == "PAW_PBE Au 01Jan2026"
    assert (gold.valence, gold.enmax) == (11.0, 250.0)
    assert not gold.known


def test_the_inputs_in_words() -> None:
    words = in_words(VaspSettings(preset="li10mp2s12"), ["Li", "Sn"])
    assert words["POTCAR.spec"] == "PBE_54: Li_sv Sn_d"
    assert words["KPOINTS"] == "no file; KSPACING = 0.5 1/Å, Γ-centred"
    assert "ENCUT = 500.0" in words["INCAR"] and "ISYM = 0" in words["INCAR"]
