"""The labeller is run once on two atoms before a thousand jobs rely on it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ionloop.codes.common.acceptance import stands
from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.codes.vasp.settings import VaspSettings
from ionloop.jobs.label.dft import GpawLabelMaker
from ionloop.jobs.label.probe import EDGE, probe, probe_cells
from ionloop.jobs.label.vasp import VaspLabelMaker
from ionloop.preflight import first_labels
from ionloop.preflight.first_labels import look_at_first_labels
from ionloop.preflight.inputs import Inputs
from ionloop.runfile.model import RunFile
from ionloop.runfile.sections.gpaw import GpawSection
from ionloop.runfile.sections.vasp import VaspSection
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import RejectReason

STAND_IN = Path(__file__).parents[1] / "dft" / "stand_in_gpaw.py"
ELEMENTS = ["Li", "Na", "Ag", "Y", "Zr", "P", "S", "Cl", "I", "Cs"]


def command(misdeed: str = "none") -> str:
    return f"{sys.executable} {STAND_IN} {misdeed} 26.7.0"


@given(st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=7, unique=True))
def test_every_element_is_in_a_cell_of_two_atoms(elements: list[str]) -> None:
    cells = probe_cells(elements)
    assert {symbol for cell in cells for symbol in cell.symbols} == set(elements)
    assert len(cells) == (len(elements) + 1) // 2
    for cell in cells:
        assert cell.n_atoms == 2
        distance = np.linalg.norm(cell.positions[0, 1] - cell.positions[0, 0])
        assert 1.5 < distance < EDGE - distance + 1  # a bond, and its image is further away


def test_vasp_labels_two_atoms_by_the_way_of_every_label(vasp: Any) -> None:
    settings = VaspSettings(
        encut=300, kpoints=0.5, potcars={"Au": "Au", "Cu": "Cu"}, vasp_cmd=vasp.command
    )
    cells = probe_cells(["Au", "Cu"])
    (label,) = probe(VaspLabelMaker(settings=settings), cells, 120)
    assert label.reason is None, label.detail
    assert vasp.starts == [cells[0].ids[0]]
    assert label.frame.is_labelled


def test_another_version_is_another_level_as_with_vasp() -> None:
    maker = GpawLabelMaker(settings=GpawSettings(command=command(), version="25"))
    (label,) = probe(maker, probe_cells(["Au", "Cu"]), 60)
    assert label.reason is RejectReason.OTHER_LEVEL
    assert "label.version says 25" in label.detail
    assert not stands(label, maker.terms)  # calculated again once the place is mended


@pytest.mark.parametrize(
    ("misdeed", "level", "sentence"),
    [
        ("unconverged", "ok", "as may be in so small a cell"),
        ("crash", "error", "no label of a cell of Au1Cu1: .* a wave function was lost"),
        ("hang", "error", "no label of a cell of two atoms: .* was not through after 3 s"),
    ],
)
def test_check_says_what_became_of_the_first_label(
    monkeypatch: pytest.MonkeyPatch, gold_copper: Frames, misdeed: str, level: str, sentence: str
) -> None:
    monkeypatch.setattr(first_labels, "PROBE_SECONDS", 3.0 if misdeed == "hang" else 60.0)
    section = GpawSection(command=command(misdeed))
    run_file = RunFile.model_validate({"structures": ["AuCu.vasp"], "label": section})
    (finding,) = look_at_first_labels(run_file, Inputs(structures=[gold_copper[:1]]))
    assert finding.level == level
    assert re.search(sentence, finding.sentence), finding.sentence


def test_a_labeller_that_starts_no_program_is_not_probed(gold_copper: Frames) -> None:
    run_file = RunFile.model_validate({"structures": ["AuCu.vasp"], "label": {"model": "chgnet"}})
    assert list(look_at_first_labels(run_file, Inputs(structures=[gold_copper]))) == []
    assert VaspSection.starts_a_program and GpawSection.starts_a_program
