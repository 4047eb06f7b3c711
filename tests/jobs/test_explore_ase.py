"""Exploration with ASE calculators: through the jobs, and with universal potentials."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ionloop.codes.ase import AseSettings, run_trajectories
from ionloop.codes.ase import torchsim as batches
from ionloop.codes.ase.ensemble import Ensemble
from ionloop.codes.ase.torchsim import AGREEMENT, BatchedEnsemble, largest_difference
from ionloop.codes.common.ase import without_known_warnings
from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.formats.ase import to_ase
from ionloop.jobs.explore.accounts import collect_exploration
from ionloop.jobs.explore.ase import AseExploreMaker
from ionloop.jobs.explore.dynamics import explore_trajectories, spread_trajectories
from ionloop.jobs.explore.starts import planned
from ionloop.programs.errors import MissingExtraError
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import ExplorationDoc, Stage
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import StoredFile
from ionloop.schemas.selection import TrustWindow

TOY = Path(__file__).parents[1] / "toy"
TRUST = TrustWindow(low=0.005, high=5.0)


def crystal() -> Frames:
    from ase.build import bulk

    atoms = bulk("Li", "fcc", a=3.6, cubic=True).repeat(2)
    atoms.symbols[1::2] = "S"
    return Frames(tuple(atoms.symbols), atoms.positions[None], atoms.cell.array[None])


def salt() -> Frames:
    """Return four atoms in a cell that is skewed and left-handed."""
    cell = 4.03 * np.array([[0.0, 1.0, 1.0], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    positions = 4.03 * np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0], [0.5, 0.5, 0.5]])
    return Frames(("Li", "Li", "F", "F"), positions[None], cell[None])


def ensemble_of(kind: str, models: list[StoredFile]) -> Any:
    members = [SimpleNamespace(model=model) for model in models]
    return SimpleNamespace(kind=kind, members=members)


def explored(
    maker: AseExploreMaker, kind: str, models: list[StoredFile], stage: Stage, start: Frames
) -> ExplorationDoc:
    """Run a stage through its jobs."""
    ensemble = ensemble_of(kind, models)
    held = SimpleNamespace(reference="the ensemble", value=ensemble)
    spread = spread_trajectories.original.__wrapped__
    flow = spread(maker, held, stage, [start], TRUST, 1, None).replace
    assert [job.metadata["cores"] for job in flow.jobs] == [1] * len(flow.jobs)
    parts = [
        explore_trajectories.original(maker, ensemble, *job.function_args[2:])
        for job in flow.jobs[:-1]
    ]
    references = [SimpleNamespace(value=part, reference=part) for part in parts]
    asked = [planned(task) for job in flow.jobs[:-1] for task in job.function_args[2]]
    gather = collect_exploration.original.__wrapped__
    document: ExplorationDoc = gather(0.5, stage, TRUST, asked, references)
    return document


def test_a_stage_runs_from_starts_to_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.chdir(tmp_path)
    from morse_potentials import KIND, ensemble

    stage = Stage(
        temperatures=[300, 600], n_structures=2, steps=40, dump_every=10, ensemble="npt-iso"
    )
    maker = AseExploreMaker(batch_size=3)
    found = explored(maker, KIND, ensemble(), stage, crystal())
    assert (found.n_finished, len(found.parts)) == (4, 2)
    assert len(found.deviations) == 4 * 5
    assert sum(map(len, found.candidates)) > 0
    assert sorted(found.last_good_frames) == [0, 1, 2, 3]
    assert "ase" in found.parts[0].provenance.versions


@pytest.mark.parametrize(
    ("settings", "batch_size", "expected"),
    [
        ({}, None, 1),
        ({}, 3, 3),
        ({"device": "cuda"}, None, 16),
        ({"device": "cuda:1"}, 2, 2),
        ({"batched": "always"}, None, 16),
    ],
)
def test_trajectories_are_alone_on_the_cpu_and_together_on_a_gpu(
    settings: dict[str, str], batch_size: int | None, expected: int
) -> None:
    maker = AseExploreMaker(settings=AseSettings.model_validate(settings), batch_size=batch_size)
    assert maker.trajectories_per_job == expected


def test_kinds_without_a_calculator_are_refused() -> None:
    maker = AseExploreMaker()
    for kind in ("deepmd", "sevennet", "chgnet", "mace", "my_module:my_calculator"):
        maker.check_kind(kind)
    with pytest.raises(InputError, match="AseExploreMaker runs potentials of the kind chgnet or"):
        maker.check_kind("harmonic")


@pytest.mark.parametrize(
    ("settings", "kind", "there", "reason"),
    [
        ({}, "sevennet", True, "batches gain nothing on cpu"),
        ({"device": "cuda"}, "sevennet", True, ""),
        ({"device": "cuda"}, "sevennet", False, "torch-sim is not installed"),
        ({"device": "cuda"}, "chgnet", True, "torch-sim evaluates sevennet here, not chgnet"),
        ({"device": "cuda", "batched": "never"}, "sevennet", True, "explore.batched is never"),
        ({"batched": "always"}, "sevennet", True, ""),
    ],
)
def test_when_trajectories_advance_as_a_batch(
    settings: dict[str, Any], kind: str, there: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "find_spec", lambda name: there or None)
    assert batches.why_not_batched(kind, AseSettings(**settings)) == reason


def test_batches_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    always = AseSettings(batched="always")
    with pytest.raises(InputError, match=r"explore\.batched: torch-sim evaluates .* not deepmd"):
        batches.why_not_batched("deepmd", always)
    monkeypatch.setattr(batches, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"ionloop\[torchsim\]"):
        batches.why_not_batched("sevennet", always)


class FakeBatch:
    """Stands for torch-sim's model of a Morse potential; its forces are off by `error` eV/Å."""

    def __init__(self, error: float) -> None:
        self.error, self.sizes = error, list[int]()

    def evaluate(self, model: Any, configurations: Any, device: str) -> list[Any]:
        from dataclasses import replace

        from ionloop.codes.common.ase import evaluate

        self.sizes.append(len(configurations))
        found = [evaluate(atoms) for atoms in configurations]
        return [replace(each, forces=each.forces + self.error) for each in found]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeBatch:
    """Let torch-sim know Morse potentials."""
    monkeypatch.syspath_prepend(str(TOY))
    import morse_potentials

    made = FakeBatch(1e-6)
    monkeypatch.setattr(batches, "find_spec", lambda name: True)
    monkeypatch.setattr(batches, "MODELS", {morse_potentials.KIND: "builtins:print"})
    monkeypatch.setattr(batches, "evaluate_together", made.evaluate)
    return made


def tasks_of(start: Frames, n: int, **changes: Any) -> list[TrajectoryTask]:
    asked = {"temperature": 300.0, "pressure": 1.0, "ensemble": "nvt", "timestep": 2.0}
    asked |= {"steps": 20, "dump_every": 5, "start": start.snapped(), **changes}
    return [TrajectoryTask(index=i, seed=i + 1, driver=i, **asked) for i in range(n)]


def test_a_batch_gives_the_trajectories_of_single_calculations(
    fake: FakeBatch, tmp_path: Path
) -> None:
    from morse_potentials import KIND, ensemble

    fake.error = 0.0
    tasks = [*tasks_of(crystal(), 3), *tasks_of(crystal(), 5, timestep=200.0)[3:]]
    alone = run_trajectories(tasks, ensemble(), AseSettings(), tmp_path / "alone", KIND)
    assert not fake.sizes
    always = AseSettings(batched="always")
    together = run_trajectories(tasks, ensemble(), always, tmp_path / "together", KIND)
    assert max(fake.sizes) > 2
    for one, other in zip(alone, together, strict=True):
        assert one.frames == other.frames
        assert one.stop_reason == other.stop_reason
        np.testing.assert_array_equal(one.max_devi_f, other.max_devi_f)
    assert [each.finished for each in alone] == [True] * 3 + [False] * 2


def test_wrong_forces_of_a_batch_are_noticed(
    fake: FakeBatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from morse_potentials import KIND, ensemble

    paths = [model.write(tmp_path, f"{i}.json") for i, model in enumerate(ensemble())]
    (atoms,) = to_ase(crystal())
    fake.error = 2 * AGREEMENT
    with pytest.raises(InputError, match=r"explore\.batched: forces of a batch .* differ by 2e-05"):
        BatchedEnsemble(KIND, paths, "cpu", "always").evaluate(0, [atoms])
    careful = BatchedEnsemble(KIND, paths, "cpu", "auto")
    (found,) = careful.evaluate(0, [atoms])
    assert "model 0 is evaluated singly" in caplog.text
    expected = Ensemble(KIND, paths).evaluate(0, [atoms])
    assert largest_difference([found], expected) == 0
    fake.error = 0.0
    careful.evaluate(1, [atoms])
    assert "model 1" not in caplog.text


def sevennet_models() -> list[StoredFile]:
    """Return 7net-0 and the version before it."""
    import sevenn

    folder = Path(sevenn.__file__).parent / "pretrained_potentials"
    return [StoredFile.read(path) for path in sorted(folder.glob("SevenNet_0__*/*.pth"))]


def chgnet_models(folder: Path) -> list[StoredFile]:
    """Return CHGNet, and CHGNet with another readout."""
    import torch

    from ionloop.codes.chgnet.net import open_net
    from ionloop.codes.chgnet.settings import ChgnetSettings

    (path,) = set(ChgnetSettings().bundled().values())
    net = open_net(path, "cpu")
    with torch.no_grad():
        net.readout.mul_(1.05)
    return [StoredFile.read(path), StoredFile("chgnet.pth.tar", net.to_bytes())]


SHORT = {"steps": 4, "dump_every": 2, "ensemble": "npt-tri", "temperature": 500.0}


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["sevennet", "chgnet"])
def test_universal_potentials_explore(kind: str, tmp_path: Path) -> None:
    models = sevennet_models() if kind == "sevennet" else chgnet_models(tmp_path)
    tasks = tasks_of(salt(), 2, **SHORT)[1:]
    settings = AseSettings(restart_every=2)
    folder = tmp_path / "whole"
    whole = run_trajectories(tasks, models, settings, folder, kind)
    for each in whole:
        assert each.finished, each.stop_reason
        assert each.steps.tolist() == [0, 2, 4]
        assert 1e-4 < each.max_devi_f.max() < 1
        assert 1e-5 < each.max_devi_v.max() < 1
        assert np.ptp(each.frames.volumes) > 0
    for lost in ("0001.1.npz", "0001.over"):  # as if killed in its second leg
        (folder / f"trajectory-{lost}").unlink()
    again = run_trajectories(tasks, models, settings, folder, kind)
    assert again[0].frames == whole[0].frames
    np.testing.assert_array_equal(again[0].max_devi_f, whole[0].max_devi_f)
    np.testing.assert_array_equal(again[0].temperatures, whole[0].temperatures)


@pytest.mark.integration
def test_torch_sim_gives_the_forces_of_single_calculations(tmp_path: Path) -> None:
    pytest.importorskip("torch_sim")
    models = sevennet_models()
    tasks = tasks_of(salt(), 3, **SHORT)
    always = AseSettings(batched="always")
    together = run_trajectories(tasks, models, always, tmp_path / "together", "sevennet")
    assert all(each.finished for each in together), together[0].stop_reason
    paths = [tmp_path / "together" / f"model-{i}.pth" for i in range(2)]
    with without_known_warnings():
        ensemble = BatchedEnsemble("sevennet", paths, "cpu", "always")
        configurations = [to_ase(each.frames[-1])[0] for each in together]
        batch: list[Any] = ensemble.evaluate(0, configurations)
        single: list[Any] = Ensemble.evaluate(ensemble, 0, configurations)
    assert largest_difference(batch, single) < AGREEMENT
    virials = [one.virial - other.virial for one, other in zip(batch, single, strict=True)]
    assert np.abs(virials).max() < 1e-4
    assert np.abs(single[0].forces).max() > 0.1
