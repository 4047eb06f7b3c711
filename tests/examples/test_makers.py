from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.flows.concurrent_learning.maker import ConcurrentLearningMaker
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.schemas.frames import Frames

EXAMPLE = Path(__file__).parents[2] / "examples/makers/gold_copper.py"


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")
def test_the_loop_from_makers_runs_in_jobflow_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("gold_copper", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "NET", example.NET.model_copy(update={"steps": 60}))
    summary = example.main()
    assert summary.n_turns == 1
    assert summary.n_accepted >= 12


def test_makers_take_the_type_map_from_the_start_structures():
    frame = Frames(("Na", "Cl"), np.array([[[0, 0, 0], [2.8, 2.8, 2.8]]]), 5.6 * np.eye(3)[None])
    maker = ConcurrentLearningMaker(
        label=ForceFieldLabelMaker(settings=ForceFieldSettings(model="ase.calculators.emt:EMT"))
    )
    complete = maker._complete([frame])
    assert complete.train.type_map == complete.explore.type_map == ["Na", "Cl"]
    assert complete.production == complete.train
    assert maker.make([frame]).jobs
