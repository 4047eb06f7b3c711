from __future__ import annotations

from pathlib import Path

import pytest

from ionloop.formats.errors import FrameFileError
from ionloop.runfile.example import write_example
from ionloop.runfile.reading import load
from ionloop.schemas.errors import InputError

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
    with pytest.raises(FrameFileError, match=r"none\.cif does not exist"):
        write_example(tmp_path / "run.yaml", [tmp_path / "none.cif"])


@pytest.mark.parametrize(
    "name",
    [
        "0123.vasp",
        "null.vasp",
        "1e5.vasp",
        "yes.vasp",
        "my LGPS, new.vasp",
        "a: b.vasp",
        "#1.vasp",
        "~home.vasp",
        "it's.vasp",
        'a "b".vasp',
        "[x]{y}.vasp",
        "Li₁₀GeP₂S₁₂.vasp",
        "-.vasp",
        "POSCAR",
    ],
)
def test_a_structure_of_any_file_name_gives_a_run_file_that_loads(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(LGPS.read_bytes())
    (written,) = write_example(Path("run.yaml"), [Path(name)])
    run_file = load(written)
    assert isinstance(run_file.name, str)
    assert run_file.read_structures()[0].n_atoms == 50


def test_a_structure_in_a_folder_of_an_odd_name(tmp_path):
    folder = tmp_path / "1: two, three"
    folder.mkdir()
    (folder / "POSCAR").write_bytes(LGPS.read_bytes())
    (written,) = write_example(tmp_path / "run.yaml", [folder / "POSCAR"])
    assert load(written).read_structures()[0].n_atoms == 50


def test_a_structure_without_a_cell_is_refused(tmp_path):
    (tmp_path / "molecule.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.7\n")
    with pytest.raises(FrameFileError, match="give it a periodic cell"):
        write_example(tmp_path / "run.yaml", [tmp_path / "molecule.xyz"])
    assert not (tmp_path / "run.yaml").exists()


@pytest.mark.parametrize("name", ["${HOME}.vasp", "$HOME.vasp"])
def test_a_file_name_that_a_run_file_would_read_otherwise_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(LGPS.read_bytes())
    with pytest.raises(InputError, match="stands for an environment variable; rename it"):
        write_example(tmp_path / "run.yaml", [tmp_path / name])
    assert not (tmp_path / "run.yaml").exists()


def test_a_run_file_goes_into_a_folder_that_is_there(tmp_path):
    with pytest.raises(InputError, match=r"folder \S*new does not exist; create it"):
        write_example(tmp_path / "new" / "run.yaml")
    with pytest.raises(InputError, match="is a folder; name a file"):
        write_example(tmp_path, force=True)
