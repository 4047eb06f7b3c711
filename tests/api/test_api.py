"""The public face: every name is there, nothing heavy is imported before it is used."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import ionloop.api
from ionloop.monitor.frames import frames, labels
from ionloop.monitor.records import UnknownRunError
from ionloop.monitor.turns import turns
from ionloop.schemas.errors import IonloopError
from ionloop.stores.connect import open_store

sys.path.insert(0, str(Path(__file__).parents[1] / "monitor"))


@pytest.mark.parametrize("name", ionloop.api.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(ionloop.api, name).__name__ == name
    assert name in dir(ionloop.api)


def test_type_checkers_see_the_names_where_they_are() -> None:
    """The imports of the TYPE_CHECKING block are the table."""
    (block,) = [
        node for node in ast.parse(inspect.getsource(ionloop.api)).body if isinstance(node, ast.If)
    ]
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ionloop.")
        for alias in node.names
    }
    own = {"runs", "turns", "labels", "frames"}
    assert seen == {name: f"ionloop.{place}" for name, place in ionloop.api._MODULE_OF.items()}
    assert {*seen, *own} == {*ionloop.api.__all__}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = ionloop.api.colour


def test_the_import_is_light() -> None:
    heavy = ("jobflow", "pandas", "numpy", "pymatgen", "ase", "pydantic", "torch")
    code = f"import sys, ionloop.api; print([each for each in {heavy} if each in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout.strip() == "[]"


def test_names_of_version_0_1_are_where_they_were() -> None:
    from ionloop.config import RunFile, load, start
    from ionloop.selection import classify

    assert (load, start) == (ionloop.api.load, ionloop.api.start)
    assert (RunFile, classify) == (ionloop.api.RunFile, ionloop.api.classify)


def test_tables_hold_what_the_queries_answer(tmp_path: Path) -> None:
    from synthetic_run import whole_run

    file = tmp_path / "ionloop.db"
    with closing(open_store(file)) as store:
        whole_run(store)
        rows = turns(store, "lgps")
        bought = labels(store, "lgps", "rejected")
        judged = frames(store, "lgps", verdict="failed", limit=7)
        table = ionloop.api.turns(store)
        assert table["turn"].tolist() == [row.turn for row in rows]
        assert table["counts.failed"].tolist() == [row.counts.failed for row in rows]
    assert ionloop.api.runs(str(file))["run"].tolist() == ["lgps"]
    rejected = ionloop.api.labels(file, "lgps", status="rejected")
    assert rejected["label_id"].tolist() == [row.label_id for row in bought]
    failed = ionloop.api.frames(file, "lgps", verdict="failed", limit=7)
    assert failed["frame_id"].tolist() == judged["frame_id"].tolist()
    assert list(failed.columns) == judged.names
    with pytest.raises(UnknownRunError, match="it has lgps"):
        ionloop.api.turns(file, "agi")
    assert issubclass(UnknownRunError, IonloopError)
