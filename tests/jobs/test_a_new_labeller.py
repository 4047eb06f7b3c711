"""A labeller in one new file goes through the whole loop; nothing else knows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobflow import Flow, JobStore, run_locally

from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.flows.concurrent_learning.maker import ConcurrentLearningMaker
from ionloop.flows.concurrent_learning.settings import InitialData
from ionloop.jobs.label.batches import BatchLabelMaker
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.schemas.exploration import Stage
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels
from ionloop.schemas.selection import TrustWindow

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")

NET = DeepmdSettings(rcut=4.5, neurons=[4, 8], axis_neurons=4, fitting=[16, 16], steps=60)


@pytest.fixture
def maker(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchLabelMaker:
    from lennard_jones_labeller import LennardJones  # type: ignore[import-not-found]

    monkeypatch.chdir(tmp_path)
    return BatchLabelMaker(name="label with Lennard-Jones", settings=LennardJones())


def test_the_documentation_shows_it() -> None:
    root = Path(__file__).parents[2]
    code = (root / "tests/toy/lennard_jones_labeller.py").read_text()
    assert f"```python\n{code}```" in (root / "docs/adding_a_code.md").read_text()
    assert len(code.splitlines()) < 40


def run(flow: Flow, store: JobStore) -> Any:
    run_locally(flow, store=store, create_folders=True, ensure_success=True, log=False)
    return flow.output.resolve(store)


def test_it_labels(maker: BatchLabelMaker, store: JobStore, gold_copper: Frames) -> None:
    labels: Labels = run(maker.make([gold_copper[:3]]), store)
    assert (labels.n_requested, labels.n_accepted) == (3, 3)
    assert labels.level == maker.level
    assert labels.seconds > 0  # measured, as the labeller does not say it
    (part,) = labels.frames
    assert part.forces is not None and part.energies is not None and part.virials is not None
    step = 1e-6
    stretched = Frames(part.symbols, part.positions * (1 + step), part.cells * (1 + step))
    moved = part.positions.copy()
    moved[0, 0, 0] += step

    def energy(frames: Frames) -> float:
        return maker.settings.calculate(frames[0], Path("unused")).energy

    by_strain = (part.energies[0] - energy(stretched)) / step
    assert np.trace(part.virials[0]) == pytest.approx(by_strain, rel=1e-2, abs=1e-2)
    by_move = (part.energies[0] - energy(Frames(part.symbols, moved, part.cells))) / step
    assert part.forces[0, 0, 0] == pytest.approx(by_move, rel=1e-2, abs=1e-2)


def test_it_relaxes_and_runs_molecular_dynamics(
    maker: BatchLabelMaker, store: JobStore, gold_copper: Frames
) -> None:
    job = maker.relax([gold_copper[:1]])
    (relaxed,) = run(Flow([job], output=job.output), store)
    result = maker.settings.calculate(relaxed, Path("unused"))
    assert np.abs(result.forces).max() < maker.settings.relax_fmax
    md = maker.aimd([relaxed], MolecularDynamics(temperature=300, steps=6, every=2))
    assert run(Flow([md], output=md.output), store).n_accepted == 3


@pytest.mark.integration
def test_it_goes_through_the_whole_loop(
    maker: BatchLabelMaker, store: JobStore, gold_copper: Frames
) -> None:
    loop = ConcurrentLearningMaker(
        label=maker,
        train=DeepmdTrainMaker(settings=NET, n_models=2),
        stages=[Stage(temperatures=[300.0], steps=60, max_turns=1)],
        trust=TrustWindow(low=0.05, high=2.0),
        initial=InitialData(n_perturbed=12),
    )
    summary = run(loop.make([gold_copper[:1]]), store)
    assert summary.n_turns == 1
    assert summary.n_accepted >= 12
    labels = store.additional_stores["labels"]
    assert labels.count() >= summary.n_accepted
    words = labels.distinct("level_words")
    assert all("lennard-jones" in each for each in words), words
