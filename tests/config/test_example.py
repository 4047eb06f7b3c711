from __future__ import annotations

from pathlib import Path

import pytest

from ionloop.config.example import write_example
from ionloop.config.run_file import load

LGPS = Path(__file__).parents[2] / "examples/lgps/LGPS.vasp"


def test_example_loads_and_has_its_structure(tmp_path):
    written = write_example(tmp_path / "run.yaml")
    assert written == [tmp_path / "run.yaml", tmp_path / "LGPS.vasp"]
    run_file = load(tmp_path / "run.yaml")
    assert run_file.name == "lgps"
    assert run_file.read_structures()[0].n_atoms == 50
    assert run_file.flow().jobs


def test_example_names_given_structures(tmp_path):
    (tmp_path / "runs").mkdir()
    structure = tmp_path / "Mine.vasp"
    structure.write_bytes(LGPS.read_bytes())
    (written,) = write_example(tmp_path / "runs/run.yaml", [structure])
    run_file = load(written)
    assert run_file.name == "mine"
    assert run_file.structures[0].resolve() == structure


def test_nothing_is_overwritten_unless_forced(tmp_path):
    (tmp_path / "LGPS.vasp").write_text("mine")
    with pytest.raises(FileExistsError, match=r"LGPS\.vasp exists"):
        write_example(tmp_path / "run.yaml")
    assert not (tmp_path / "run.yaml").exists()
    write_example(tmp_path / "run.yaml", force=True)
    assert (tmp_path / "LGPS.vasp").read_bytes() == LGPS.read_bytes()


def test_missing_structure_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no structure file"):
        write_example(tmp_path / "run.yaml", [tmp_path / "none.cif"])
