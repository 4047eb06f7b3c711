"""The production training: what it starts from, what it is trained on, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ionloop.flows.concurrent_learning.accounts import of_potential
from ionloop.preflight.findings import Finding
from ionloop.preflight.inputs import Inputs
from ionloop.preflight.loop import look_at_production
from ionloop.preflight.plan import plan
from ionloop.runfile.model import RunFile
from ionloop.schemas.dataset import DatasetDoc
from ionloop.schemas.potential import EnsembleDoc, ForceErrors

LGPS = Path(__file__).parents[2] / "examples/lgps/LGPS.vasp"
ERRORS = ForceErrors(
    n_frames=1,
    energy_mev_per_atom=1.0,
    force_mev_per_angstrom=1.0,
    force_rms_mev_per_angstrom=1.0,
)
DATASET = DatasetDoc(level="x", training=["a"], validation=["b"], sha256="")


def run_file(**production: Any) -> RunFile:
    given = {"label": {"model": "chgnet"}, "production": production}
    return RunFile.model_validate({"structures": [LGPS], **given})


def planned(**production: Any) -> str:
    file = run_file(**production)
    (sentence,) = [s for s in plan(file, file.read_structures()) if "Train the potential" in s]
    return sentence


def findings(**production: Any) -> list[Finding]:
    return list(look_at_production(run_file(**production), Inputs()))


def test_a_production_of_the_same_network_starts_from_the_ensemble() -> None:
    same = {"steps": 900, "batch_size": 2, "learning_rate_stop": 1e-7, "activation": "tanh"}
    assert "from the last ensemble" in planned(**same)
    assert findings(**same) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fitting", [120, 120]),
        ("neurons", [20, 40]),
        ("axis_neurons", 8),
        ("rcut", 7.0),
        ("rcut_smth", 1.0),
        ("activation", "gelu"),
        ("precision", "float32"),
        ("model", "se_atten"),
        ("backend", "pytorch"),
    ],
)
def test_a_production_of_another_network_is_said_to_start_from_scratch(
    key: str, value: Any
) -> None:
    assert f"from scratch, since its network is not the ensemble's ({key})" in planned(
        **{key: value}
    )
    (finding,) = findings(**{key: value})
    assert (finding.level, finding.key) == ("warning", "production")
    assert f"({key}): it is trained from scratch" in finding.sentence
    assert findings(**{key: value}, warm_start=False) == []
    assert planned(**{key: value}, warm_start=False).endswith("from scratch.")


def test_a_production_may_train_on_the_frames_that_are_held_back() -> None:
    maker = run_file(train_on_all=True).maker()
    assert (maker.production.validation_fraction, maker.train.validation_fraction) == (0.0, 0.05)
    assert planned(train_on_all=True).endswith("on the held-back frames too.")
    (finding,) = findings(train_on_all=True)
    assert "no held-back error" in finding.sentence
    with pytest.raises(ValidationError, match="give one of the two"):
        run_file(train_on_all=True, validation_fraction=0.1)


def test_frames_that_the_ensemble_has_seen_are_no_held_back_frames() -> None:
    (finding,) = findings(validation_fraction=0.1)
    assert (finding.level, finding.key) == ("warning", "production.validation_fraction")
    assert findings(validation_fraction=0.05) == []
    assert findings(validation_fraction=0.1, warm_start=False) == []


def test_the_summary_says_what_the_production_started_from_and_lacks() -> None:
    sound = EnsembleDoc(n_asked=1, members=[], seeds=[1], validation_errors=[ERRORS])
    assert of_potential(sound, DATASET) == []
    note = "model 1 of this training started from scratch: its network is another one (fitting)"
    unjudged = EnsembleDoc(n_asked=1, members=[], seeds=[1], notes=[note])
    assert of_potential(unjudged, DATASET) == [
        f"production: {note}",
        "production: it was trained on the held-back frames too and has no held-back error",
    ]
    nothing_held = DATASET.model_copy(update={"validation": []})
    assert of_potential(unjudged, nothing_held) == [f"production: {note}"]
