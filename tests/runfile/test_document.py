from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from ionloop.runfile.model import RunFile
from ionloop.runfile.reference import _walk, page

PAGE = Path(__file__).parents[2] / "docs/run_file.md"
MODELS = {model.__name__: model for _, model in _walk(RunFile, "")} | {"RunFile": RunFile}


def test_page_is_up_to_date():
    told = "run: python -m ionloop.runfile.reference docs/run_file.md"
    assert PAGE.read_text() == page(), told


def test_page_has_units_and_defaults():
    lines = page().splitlines()
    assert "| `low` | number > 0 | eV/Å | **required** | σ_low in eV/Å |" in lines
    assert any(
        line.startswith("| `n_models` | whole number > 0, ≤ 100 |  | `4` |") for line in lines
    )
    assert any(line.startswith("| `temperatures` | list: number | K |") for line in lines)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_key_has_a_description(model: type[BaseModel]):
    silent = [name for name, field in model.model_fields.items() if not field.description]
    assert not silent
