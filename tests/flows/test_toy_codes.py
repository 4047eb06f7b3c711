"""A trainer and an explorer that only tests know go through the whole loop.

Each is one file in ``tests/toy``; docs/adding_a_code.md explains them.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from jobflow import JobStore, run_locally

from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.flows.concurrent_learning.maker import ConcurrentLearningMaker
from ionloop.flows.concurrent_learning.settings import InitialData
from ionloop.flows.concurrent_learning.validation import Validation
from ionloop.formats.reading import load_structures
from ionloop.jobs.explore.lammps import LammpsExploreMaker
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import Stage
from ionloop.schemas.frames import Frames
from ionloop.schemas.run import SummaryDoc
from ionloop.schemas.selection import TrustWindow

TOY = Path(__file__).parents[1] / "toy"


@pytest.fixture
def start(toy: Path) -> list[Frames]:
    return load_structures([TOY / "AuCu.vasp"])


def maker(**changes: Any) -> ConcurrentLearningMaker:
    emt = ForceFieldSettings(model="ase.calculators.emt:EMT")
    settings: dict[str, Any] = {
        "label": ForceFieldLabelMaker(settings=emt),
        "train": import_module("harmonic_trainer").HarmonicTrainMaker(),
        "explore": import_module("random_explorer").RandomExploreMaker(),
        "stages": [Stage(temperatures=[300, 600], steps=60, max_turns=2)],
        "trust": TrustWindow(low=0.05, high=2.0),
        "initial": InitialData(n_perturbed=12),
        "validation": Validation(temperatures=[450], n_frames=4, steps=50, spacing=20),
    }
    return ConcurrentLearningMaker(**settings | changes)


@pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")
def test_toy_codes_go_through_the_whole_loop(
    start: list[Frames], store: JobStore, tmp_path: Path
) -> None:
    flow = maker().make(start)
    run_locally(flow, store=store, root_dir=tmp_path, ensure_success=True, log=False)
    summary = flow.output.resolve(store)
    assert isinstance(summary, SummaryDoc)
    assert summary.n_turns == 2
    assert summary.potential.kind == "harmonic"
    assert summary.n_labels > 12 + 4
    assert summary.validation is not None
    assert summary.validation.n_accepted == 4
    assert summary.validation.errors.force_mev_per_angstrom < 1000


def test_an_explorer_refuses_potentials_that_it_does_not_run(start: list[Frames]) -> None:
    with pytest.raises(InputError, match="LammpsExploreMaker runs potentials of the kind deepmd"):
        maker(explore=LammpsExploreMaker()).make(start)


@pytest.mark.parametrize("name", ["harmonic_trainer.py", "random_explorer.py"])
def test_the_page_on_adding_a_code_shows_the_file(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs/adding_a_code.md").read_text()
    assert f"```python\n{(TOY / name).read_text()}```" in page
