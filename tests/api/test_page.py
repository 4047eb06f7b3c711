"""The examples of docs/api.md, run in order as one script, on a store with a made-up run."""

from __future__ import annotations

import re
import shutil
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from ionloop.codes import deepmd, lammps
from ionloop.codes.forcefield import model as forcefield
from ionloop.stores.connect import open_store

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/api.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
sys.path.insert(0, str(ROOT / "tests/monitor"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with what the examples name, in which no program is started."""
    from synthetic_run import whole_run

    for name in ("run.yaml", "LGPS.vasp"):
        shutil.copy(ROOT / "examples/lgps" / name, tmp_path)
    with closing(open_store(tmp_path / "ionloop.db")) as store:
        whole_run(store)
    monkeypatch.setattr(deepmd, "program_version", lambda command: "3.2.0")
    monkeypatch.setattr(deepmd, "check_backend", lambda backend: None)
    monkeypatch.setattr(lammps, "program_version", lambda command, kind: "22 Jul 2025")
    monkeypatch.setattr(forcefield, "calculator", lambda settings: None)
    monkeypatch.setattr(forcefield, "covered_elements", lambda settings: None)
    ended = SimpleNamespace(run="lgps", message="42 jobs completed")
    monkeypatch.setattr("ionloop.runs.launch.start", lambda run_file: ended)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS, 1):
        exec(compile(block, f"{PAGE.name}, example {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert "lgps 42 jobs completed" in printed
    assert "counts.accurate" in printed and "hours of labelling" in printed
    assert "no_such_file.yaml does not exist" in printed


def test_the_page_names_what_there_is() -> None:
    import ionloop.api

    table = PAGE.read_text().partition("The examples below")[0].partition("|---|---|")[2]
    assert sorted(re.findall(r"`(\w+)`", table)) == sorted(ionloop.api.__all__)
