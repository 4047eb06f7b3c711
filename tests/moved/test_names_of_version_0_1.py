"""What a store of version 0.1 names is found, wherever it is today.

``names_of_0_1.json`` lists every class and job function that such a store can name, by module
(how it came about: write_names.py).
"""

from __future__ import annotations

import json
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jobflow import Job
from monty.json import MontyDecoder
from pydantic import BaseModel

from ionloop.schemas.moved import MOVED, RENAMED

NAMES: dict[str, dict[str, str]] = json.loads(
    Path(__file__).with_name("names_of_0_1.json").read_text()
)
CLASSES = [(m, n) for m, names in NAMES.items() for n, kind in names.items() if kind == "class"]
JOBS = [(m, n) for m, names in NAMES.items() for n, kind in names.items() if kind == "job"]


def encoded(job: str, module: str) -> dict[str, Any]:
    """Return a job as version 0.1 stored it, its function named as it was then."""
    stored: dict[str, Any] = Job(print).as_dict()
    return stored | {"function": {"@callable": job, "@module": module, "@bound": None}}


def test_the_list_is_whole() -> None:
    assert len(CLASSES) > 90 and len(JOBS) > 20


@pytest.mark.parametrize(("module", "name"), CLASSES)
def test_class_is_found_under_its_old_name(module: str, name: str) -> None:
    found = getattr(import_module(module), name)
    assert found.__name__ == name or f"{module.removeprefix('ionloop.')}:{name}" in RENAMED
    reference = {"@module": module, "@callable": name, "@bound": None}
    assert MontyDecoder().process_decoded(reference) is found
    assert issubclass(found, Enum | BaseModel) or hasattr(found, "as_dict")


@pytest.mark.parametrize(("module", "name"), JOBS)
def test_job_is_decoded_and_its_function_is_one_of_today(module: str, name: str) -> None:
    job = MontyDecoder().process_decoded(encoded(name, module))
    assert isinstance(job, Job)
    today = job.function
    assert hasattr(today, "original")
    assert today.__module__.startswith("ionloop.")
    assert getattr(import_module(today.__module__), today.__name__) is today


@pytest.mark.parametrize("old", MOVED)
def test_every_module_that_a_moved_one_points_to_is_there(old: str) -> None:
    for today in MOVED[old].split():
        assert find_spec(f"ionloop.{today}") is not None


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = import_module("ionloop.makers.train").Nothing
    with pytest.raises(ModuleNotFoundError):
        import_module("ionloop.makers.nothing")
