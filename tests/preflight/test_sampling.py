from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ionloop.preflight.findings import Finding
from ionloop.preflight.inputs import Inputs
from ionloop.preflight.sampling import look_at_kpoints
from ionloop.runfile.reading import load
from ionloop.runfile.sections.forcefield import ForceFieldSection
from ionloop.runfile.sections.gpaw import GpawSection
from ionloop.runfile.sections.vasp import VaspSection

LGPS = load(Path(__file__).parents[2] / "examples/lgps/huang2021.yaml")


def found(label: Any = None, code: Any = GpawSection, **changes: Any) -> list[Finding]:
    run_file = LGPS.model_copy(update={"label": code(**label or {}), **changes})
    return list(look_at_kpoints(run_file, Inputs(run_file.read_structures())))


def said(findings: list[Finding], level: str) -> str:
    return "\n".join(f"{f.sentence}; {f.cure}" for f in findings if f.level == level)


def test_the_mesh_of_start_cell_and_supercell_is_told():
    told = said(found({"kpoints": 0.5}), "ok")
    assert "Ge2Li20P4S24 (8.8 × 8.8 × 12.7 Å): 2×2×1 k-points, at most 0.50 1/Å apart" in told
    assert "2×2×2 cells of the start, Ge16Li160P32S192" in told
    assert "Γ alone, at most 0.36 1/Å apart" in told


@pytest.mark.parametrize("code", [GpawSection, VaspSection])
def test_a_spacing_at_the_edge_is_warned_of_with_the_shares(code):
    label = {"kpoints": 0.5} if code is GpawSection else {"preset": "li10mp2s12"}
    warned = said(found(label, code), "warning")
    strained = next(line for line in warned.splitlines() if "initial.strain" in line)
    share = re.search(r"(\d+)% 2×2×1, (\d+)% 2×2×2;", strained)
    assert share and abs(int(share[1]) - 62) <= 4
    assert int(share[1]) + int(share[2]) == 100
    assert "kpoints: {kept: 0.5} keeps the start cell's mesh" in strained
    assert "strained by up to 5.0% (NPT)" in warned


def test_neither_a_kept_mesh_nor_an_explicit_one_nor_a_safe_spacing_is_warned_of():
    for label in ({"kpoints": {"kept": 0.5}}, {"kpoints": (2, 2, 1)}, {"kpoints": 0.42}):
        assert not said(found(label), "warning")


def test_without_strain_nothing_changes():
    still = LGPS.initial.model_copy(update={"strain": 0.0})
    stage = LGPS.stages[0].model_copy(update={"ensemble": "nvt"})
    assert not said(found({"kpoints": 0.5}, initial=still, stages=[stage]), "warning")


@pytest.mark.parametrize(
    ("code", "label"), [(GpawSection, {"kpoints": "gamma"}), (VaspSection, {"preset": "lgps"})]
)
def test_gamma_alone_in_a_small_cell_is_warned_of(code, label):
    (warned,) = said(found(label, code), "warning").splitlines()
    assert warned.startswith("Γ alone in Ge2Li20P4S24 (8.8 × 8.8 × 12.7 Å)")
    assert "up to 0.72 1/Å long" in warned
    assert "kpoints: 0.35" in warned


def test_a_labeller_without_kpoints_is_not_asked():
    assert found(code=ForceFieldSection) == []


def test_the_makers_level_holds_the_kept_mesh():
    label = GpawSection.model_validate({"kpoints": {"kept": 0.5}})
    level = LGPS.model_copy(update={"label": label}).maker().label.level
    assert "Ge2Li20P4S24 2×2×1" in level.description
