"""Whatever a run file holds, the answer is a sentence that says where, or a run that can start."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from deepmd.utils.argcheck import normalize
from hypothesis import HealthCheck, given, settings
from run_file_fuzz import as_yaml, run_files

from ionloop.codes import deepmd, lammps
from ionloop.codes.deepmd import inputs, network
from ionloop.codes.deepmd.data import Systems
from ionloop.codes.forcefield import model as forcefield
from ionloop.codes.gpaw import calculation as gpaw
from ionloop.codes.lammps import cell, script
from ionloop.codes.sevennet import settings as sevennet
from ionloop.flows.concurrent_learning.initial import perturb_structures
from ionloop.jobs.explore.lammps import LammpsExploreMaker
from ionloop.jobs.explore.starts import trajectory_tasks
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.preflight.check import check
from ionloop.runfile.errors import RunFileError
from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import load

QUICK, MANY = 300, 10_000
HEALTH = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the programs be there: starting one takes seconds, and this is about what is asked."""
    monkeypatch.setattr(deepmd, "program_version", lambda command: "3.2.0")
    monkeypatch.setattr(deepmd, "check_backend", lambda backend: None)
    monkeypatch.setattr(lammps, "program_version", lambda command, kind: "22 Jul 2025")
    monkeypatch.setattr(lammps, "check_models", lambda command, suffix, kind: None)
    monkeypatch.setattr(forcefield, "calculator", lambda settings: None)
    monkeypatch.setattr(forcefield, "covered_elements", lambda settings: None)
    monkeypatch.setattr(gpaw, "probe", lambda *_: {"version": "26", "ranks": 1, "missing": []})
    # The structures are the examples' own, and are read from 300 run files.
    for name in ("preflight.inputs", "runfile.model", "formats.reading"):
        module = import_module(f"ionloop.{name}")
        monkeypatch.setattr(module, "read_frames", lru_cache(module.read_frames))
    monkeypatch.setattr(sevennet, "open_net", lru_cache(sevennet.open_net))


def answer(data: dict[str, Any], folder: Path) -> str:
    """Return what a user is told: "refused", "errors", or "ok" if the run could start."""
    path = folder / "run.yaml"
    path.write_text(as_yaml(data))
    try:
        run_file = load(path)
    except RunFileError as error:
        lines = str(error).splitlines()
        assert all(line.startswith(str(path)) for line in lines), lines
        assert "pydantic" not in str(error)
        return "refused"
    report = check(run_file)
    if not report.ok:
        assert all(finding.key and finding.sentence for finding in report.errors)
        return "errors"
    assert run_file.flow().jobs
    assert run_file.placement is not None
    begin(run_file)
    return "ok"


def begin(run_file: RunFile) -> None:
    """Build what the first jobs of the run build before they start a program."""
    maker = run_file.maker()
    start = run_file.read_structures()[0][:1]
    assert maker.label.level.keys(start.species)
    initial = run_file.initial.model_copy(update={"n_perturbed": 2})
    frames = perturb_structures.original(initial, [start], maker.seed)
    for trains in (maker.train, maker.production):
        if not isinstance(trains, DeepmdTrainMaker):
            continue
        model = network.model_section(trains.settings, frames, trains.type_map)
        systems = Systems(["a"], ["b"])
        normalize(inputs.input_script(trains.settings, model, systems, seed=maker.seed))
    for stage in (*run_file.stages, run_file.validation_stage):
        one = stage.model_copy(update={"n_structures": 1})
        for task in trajectory_tasks(one, [start], maker.explore.perturbation, maker.seed)[:2]:
            if not isinstance(maker.explore, LammpsExploreMaker):
                continue
            assert cell.data_file(task.start, maker.explore.type_map)
            settings = maker.explore.settings
            assert script.input_script(task, ["a"], maker.explore.type_map, settings)


@pytest.mark.usefixtures("programs")
@settings(max_examples=QUICK, deadline=None, suppress_health_check=HEALTH, derandomize=True)
@given(data=run_files())
def test_any_run_file_is_refused_in_place_or_can_start(data, tmp_path):
    answer(data, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("programs")
@settings(max_examples=MANY, deadline=None, suppress_health_check=HEALTH)
@given(data=run_files())
def test_ten_thousand_run_files_are_refused_in_place_or_can_start(data, tmp_path):
    answer(data, tmp_path)
