"""What the validation explores, picks and judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ionloop.codes.common.prediction import Prediction
from ionloop.flows.concurrent_learning.validation import Validation, of_validation, validate
from ionloop.jobs.select import WindowSelectMaker
from ionloop.jobs.train.evaluation import evaluation
from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import load
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import Stage
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels, LevelOfTheory
from ionloop.schemas.run import ValidationDoc
from ionloop.schemas.selection import Histogram, SelectionDoc, TrustWindow, VerdictCounts
from ionloop.schemas.table import Table
from ionloop.selection import SelectSettings

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/*.yaml"))
LAST = Stage(
    temperatures=[300.0],
    steps=500,
    ensemble="npt-iso",
    pressures=[1.0, 1000.0],
    supercell=(2, 1, 1),
    timestep=1.5,
)


def test_its_md_has_the_conditions_of_the_last_stage() -> None:
    stage = Validation(temperatures=[400.0]).stage(LAST)
    for key in ("ensemble", "pressures", "supercell", "timestep"):
        assert getattr(stage, key) == getattr(LAST, key)
    assert (stage.temperatures, stage.n_structures) == ([400.0], 4)


def test_its_md_has_other_conditions_where_told() -> None:
    told = Validation(temperatures=[400.0], ensemble="nvt", supercell=(1, 1, 1), timestep=2.0)
    stage = told.stage(LAST)
    assert (stage.ensemble, stage.supercell, stage.timestep) == ("nvt", (1, 1, 1), 2.0)
    assert len(stage.pressures) == 1


@given(
    spacing=st.floats(1, 1000),
    timestep=st.floats(0.2, 5),
    steps=st.integers(10, 5000),
    n_structures=st.integers(1, 5),
)
def test_frames_are_apart_and_counted(
    spacing: float, timestep: float, steps: int, n_structures: int
) -> None:
    asked = Validation(
        temperatures=[400.0],
        spacing=spacing,
        timestep=timestep,
        steps=steps,
        n_structures=n_structures,
    )
    stage = asked.stage(LAST)
    frames = [k for k in range(0, steps + 1, stage.dump_every) if k >= stage.warm_up]
    if stage.dump_every * timestep >= spacing:
        assert asked.n_given(LAST, n_starts=3) == len(frames) * 2 * n_structures * 3
    else:
        assert asked.n_given(LAST, n_starts=3) == 0


def test_more_frames_than_its_md_gives_are_refused(tmp_path: Path) -> None:
    structure = EXAMPLES[0].parents[1] / "lgps" / "LGPS.vasp"
    validation = Validation(temperatures=[400.0], n_frames=30, steps=200)
    run_file = RunFile(structures=[structure], label={"code": "gpaw"}, validation=validation)
    assert validation.lack(run_file.stages[-1], 1) == (
        "30 frames are asked for, and the validation MD gives 8: frames of one trajectory lie "
        "200 fs apart, and 200 steps are 400 fs, of which a fifth is set aside"
    )
    with pytest.raises(InputError, match=r"validation\.n_frames: 30 frames .* gives 8"):
        run_file.flow()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_ask_for_no_more_than_their_md_gives(path: Path) -> None:
    run_file = load(path)
    assert run_file.validation.lack(run_file.stages[-1], len(run_file.structures)) is None


def test_its_picks_are_random_whatever_the_strategy_of_the_loop() -> None:
    maker = WindowSelectMaker(settings=SelectSettings(strategy="highest", max_labels=7))
    random = maker.at_random()
    assert random.settings.strategy == "random"
    assert (random.max_labels, maker.settings.strategy) == (7, "highest")


def labelled(gold_copper: Frames) -> Frames:
    n = len(gold_copper)
    forces = np.random.default_rng(0).normal(size=gold_copper.positions.shape)
    return Frames(
        gold_copper.symbols, gold_copper.positions, gold_copper.cells, np.zeros(n), forces
    )


def test_the_worst_production_model_is_the_headline_not_their_mean(gold_copper: Frames) -> None:
    frames = labelled(gold_copper)
    assert frames.forces is not None
    n = len(frames)
    # Opposite errors: the mean of the two is right, and neither of them is.
    forces = np.array([frames.forces + 0.1, frames.forces - 0.3])
    prediction = Prediction(np.zeros((2, n)), forces, np.zeros((2, n, 3, 3)))
    judged = evaluation([frames], [prediction])
    assert [round(each.force_mev_per_angstrom) for each in judged.model_errors] == [100, 300]
    document = validate(selection(), labels(n), judged)
    assert document is not None
    assert document.errors == judged.model_errors[1]
    assert document.models == judged.model_errors
    assert document.which == " (the worst of 2 models)"


def test_a_validation_that_fell_short_says_so(gold_copper: Frames) -> None:
    frames = labelled(gold_copper)
    n = len(frames)
    assert frames.forces is not None
    prediction = Prediction(np.zeros((1, n)), frames.forces[None], np.zeros((1, n, 3, 3)))
    whole = validate(selection(), labels(n), evaluation([frames], [prediction]))
    assert whole is not None
    assert of_validation(whole, n) == []
    exploded = whole.model_copy(update={"n_unfinished": 3, "n_trajectories": 8})
    assert of_validation(exploded, n + 2) == [
        "validation: 3 of 8 trajectories stopped early, and the errors are of frames before that",
        f"validation: the errors are of {n} frames, {n + 2} were asked for",
    ]
    assert "nothing judges the potential" in of_validation(None, 30)[0]


def test_a_validation_of_version_0_1_still_loads() -> None:
    stored: dict[str, Any] = {
        "errors": {
            "n_frames": 30,
            "energy_mev_per_atom": 2.0,
            "force_mev_per_angstrom": 120.0,
            "virial_mev_per_atom": None,
            "force_rms_mev_per_angstrom": 600.0,
        },
        "temperatures": [450.0],
        "n_requested": 30,
        "n_accepted": 30,
        "core_seconds": 1.0,
    }
    document = ValidationDoc.from_stored(stored)
    assert (document.models, document.stage, document.which) == ([], None, "")


def labels(n: int) -> Labels:
    level = LevelOfTheory(code="toy", settings={})
    return Labels(level=level, n_requested=n, n_accepted=n)


def selection() -> SelectionDoc:
    return SelectionDoc(
        trust=TrustWindow(low=0.1, high=0.2),
        seed=1,
        max_labels=1,
        counts=VerdictCounts(),
        by_temperature=[],
        histogram=Histogram(edges=[], counts=[]),
        picks=[],
        set_aside={},
        picked=[],
        verdicts=Table({}),
    )
