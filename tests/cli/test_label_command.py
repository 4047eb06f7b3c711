"""The whole loop, labelled from outside by hand: it pauses, takes labels, and goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobflow import JobStore
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from ionloop.cli.main import app
from ionloop.codes.common.ase import calculate
from ionloop.codes.forcefield.model import calculator
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.formats.reading import read_frames
from ionloop.formats.writing import write_frames
from ionloop.schemas.frames import Frames
from ionloop.schemas.run import SummaryDoc
from ionloop.stores.connect import open_store

TOY = Path(__file__).parents[1] / "toy"
EMT = calculator(ForceFieldSettings(model="ase.calculators.emt:EMT"))


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def labelled(frames: Frames) -> Frames:
    results = [calculate(EMT, frames[index]) for index in range(len(frames))]
    return replace(
        frames,
        energies=np.array([result.energy for result in results]),
        forces=np.array([result.forces for result in results]),
        virials=np.array([result.virial for result in results]),
    )


@pytest.fixture
def toy_run(tmp_path: Path, gold_copper: Frames) -> Path:
    """Write the toy run file, labelled from outside, with data of another level beside."""
    shutil.copy(TOY / "AuCu.vasp", tmp_path)
    write_frames(labelled(gold_copper), tmp_path / "old.extxyz", "extxyz")
    run: dict[str, Any] = YAML(typ="safe").load(TOY / "run.yaml")
    run["label"] = {"code": "external", "level": "EMT by hand"}
    run["initial"] |= {
        "data": [{"path": "old.extxyz", "level": "EMT of old"}],
        "allow_mixed": True,
    }
    YAML().dump(run, tmp_path / "run.yaml")
    return tmp_path


@contextmanager
def opened(folder: Path) -> Iterator[JobStore]:
    store = open_store(folder / "ionloop.db")
    yield store
    store.close()


def outside(folder: Path) -> None:
    """Calculate what lies in a folder, as a program outside would."""
    for path in folder.glob("*.vasp"):
        (frame,) = read_frames(path)
        write_frames(labelled(frame), path.with_suffix(".extxyz"), "extxyz")


@pytest.mark.integration
@pytest.mark.slow
def test_a_run_pauses_for_labels_and_ends_with_them(toy_run: Path) -> None:
    store = str(toy_run / "ionloop.db")
    ended = invoke("run", str(toy_run / "run.yaml"))
    steps = []
    while ended.exit_code == 3:
        assert "ionloop label toy PATH" in ended.output
        assert (
            json.loads(invoke("status", "toy", "--json", "--store", store).stdout)["standing"][
                "state"
            ]
            == "paused"
        )
        (folder,) = {path.parent for path in toy_run.glob("to_label/toy/*/*")} - set(steps)
        steps.append(folder)
        outside(folder)
        paths = [str(path) for path in folder.glob("AuCu*.extxyz")] or [
            str(path) for path in folder.glob("Au4Cu4*.extxyz")
        ]
        told = invoke("label", "toy", *paths, "--store", store, "--json")
        assert json.loads(told.stdout)["n_missing"] == 0
        ended = invoke("resume", "toy", "--retry-failed", "--store", store)
    assert ended.exit_code == 0, ended.output
    assert [folder.name for folder in steps] == ["initial", "turn-0", "turn-1", "validation"]
    assert "labels of 2 levels of theory are mixed" in ended.output
    with opened(toy_run) as opened_store:
        found = opened_store.query_one({"output.@class": "SummaryDoc"})
        summary = SummaryDoc.from_stored(found["output"])
    assert summary.n_accepted == summary.n_labels
    assert summary.n_labels > 12 + 12
    exported = invoke("export", "toy", "dataset", "--store", store, "--out", str(toy_run / "out"))
    assert exported.exit_code == 0, exported.output
    account = json.loads((toy_run / "out" / "dataset.json").read_text())
    assert "EMT by hand" in account["level_of_theory"]
    assert "EMT of old" in account["level_of_theory"]


def test_a_run_with_a_labeller_takes_no_labels(toy_run: Path) -> None:
    from ionloop.runfile.reading import load
    from ionloop.runs.records import enter

    settings = load(toy_run / "run.yaml")
    with_labeller = settings.model_copy(update={"label": load(TOY / "run.yaml").label})
    run = enter(with_labeller)
    told = invoke("label", run, "some.extxyz", "--store", settings.store)
    assert told.exit_code == 2
    assert "only a run with label.code: external" in told.output


def test_an_unknown_run_is_named(toy_run: Path) -> None:
    open_store(toy_run / "ionloop.db").close()
    told = invoke("label", "absent", "some.extxyz", "--store", str(toy_run / "ionloop.db"))
    assert told.exit_code == 2
    assert "there is no run" in told.output


def test_forget_names_what_it_would_drop_before_it_drops(
    tmp_path: Path, gold_copper: Frames
) -> None:
    from ionloop.codes.common.acceptance import AcceptanceLimits, accept, failed
    from ionloop.jobs.label.imports import calculated
    from ionloop.jobs.label.ledger import Ledger
    from ionloop.schemas.label import LevelOfTheory
    from ionloop.stores.connect import collection

    level = LevelOfTheory(code="toy", settings={})
    bad = failed(gold_copper[0], level, RuntimeError("lost"), seconds=3600.0)
    result = calculated(labelled(gold_copper[1]))
    good = accept(gold_copper[1], result, level, AcceptanceLimits())
    with opened(tmp_path) as store:
        Ledger(collection(store, "labels")).record([bad, good])

    def forget(*arguments: str) -> Result:
        return invoke("label", "forget", *arguments, "--store", str(tmp_path / "ionloop.db"))

    def kept() -> int:
        with opened(tmp_path) as store:
            return int(collection(store, "labels").count())

    assert "say which labels" in forget().output
    listed = forget("--level", level.hash)
    assert bad.label_id[:40] in listed.output.replace("\n", "")
    assert "1 labels, which took 1 core hours, would be dropped" in listed.output
    assert kept() == 2
    told = json.loads(forget("--level", level.hash, "--yes", "--json").stdout)
    assert [each["label_id"] for each in told["labels"]] == [bad.label_id]
    assert kept() == 1
    forget("--frame", gold_copper.ids[1][:8], "--accepted", "--yes")
    assert kept() == 0
