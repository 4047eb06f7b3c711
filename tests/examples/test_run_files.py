"""The run files of the examples, and the structures that they start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from ionloop.formats.reading import load_structures
from ionloop.jobs.explore.lammps import LammpsExploreMaker
from ionloop.preflight.check import check
from ionloop.runfile.reading import load
from ionloop.selection.physical import inspect

EXAMPLES = Path(__file__).parents[2] / "examples"
each_run_file = pytest.mark.parametrize(
    "path",
    sorted(EXAMPLES.glob("*/*.yaml")),
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)


@each_run_file
def test_every_example_builds_its_run_from_sound_structures(path: Path) -> None:
    run_file = load(path)
    structures = run_file.read_structures()
    assert not any(inspect(frames).faults[0] for frames in structures)
    assert run_file.flow().jobs


@each_run_file
def test_no_model_comes_from_the_family_of_its_labels(path: Path) -> None:
    run_file = load(path)
    if run_file.train.code not in ("deepmd", "mace"):
        assert run_file.label.model_dump()["model"] == "chgnet"
        assert run_file.train.code != "chgnet"


@pytest.mark.parametrize(
    ("path", "formula"),
    [
        ("nasicon/Na3Zr2Si2PO12.vasp", "Na6Zr4Si4P2O24"),
        ("li3inybrcl/Li3InYBrCl.vasp", "Li6In1Y1Br6Cl6"),
    ],
)
def test_cells_have_the_composition_of_their_material(path: str, formula: str) -> None:
    (frames,) = load_structures([EXAMPLES / path])
    assert frames.formula == formula


@pytest.mark.parametrize("name", ["nasicon", "li3inybrcl"])
def test_students_of_a_fine_tuned_teacher_move_in_lammps(name: str) -> None:
    maker = load(EXAMPLES / name / "run.yaml").maker()
    assert maker.train.kind == "sevennet"
    assert maker.distil.train.kind == "deepmd"
    assert isinstance(maker.distil.explore, LammpsExploreMaker)


def test_the_mace_example_lacks_only_mace_and_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IONLOOP_MACE_PYTHON", raising=False)
    run_file = load(EXAMPLES / "nasicon/mace.yaml").with_store(str(tmp_path / "ionloop.db"))
    monkeypatch.setattr("ionloop.codes.forcefield.model.calculator", lambda settings: None)
    monkeypatch.setattr("ionloop.codes.forcefield.model.covered_elements", lambda settings: None)
    report = check(run_file)
    assert {finding.key for finding in report.errors} == {"train.python"}
