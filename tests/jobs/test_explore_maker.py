from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from jobflow import CURRENT_JOB

from ionloop.codes import lammps
from ionloop.codes.common.trajectory import Trajectory
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.geometry.perturb import perturb
from ionloop.jobs.explore.accounts import check_floor, collect_exploration
from ionloop.jobs.explore.lammps import LammpsExploreMaker, explore_with_lammps, spread_trajectories
from ionloop.jobs.explore.reduction import (
    Reduced,
    document,
    join_reduced,
    reduce_trajectory,
    summarise,
    thin,
)
from ionloop.jobs.explore.starts import (
    Perturbation,
    cooled,
    planned,
    trajectory_tasks,
)
from ionloop.jobs.roles import FloorError
from ionloop.jobs.unfinished import UNFINISHED
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import ExplorationDoc, ExplorationPart, Stage, TrajectoryDoc
from ionloop.schemas.frames import Frames
from ionloop.schemas.selection import TrustWindow, Verdict, VerdictCounts
from ionloop.schemas.table import Table
from ionloop.selection import PhysicalLimits, SelectSettings, select

TRUST = TrustWindow(low=0.1, high=0.3)
STAGE = Stage(
    temperatures=[300.0, 600.0], pressures=[1.0, 1e4], steps=40, n_structures=3, dump_every=10
)


def tasks(start: Frames, seed: int = 1, stage: Stage = STAGE) -> list:
    return trajectory_tasks(stage, [start[:1]], Perturbation(displacement=0.05), seed)


def reduced(whole: Trajectory, skip: int = 0, max_candidates: int = 10) -> Reduced:
    limits = PhysicalLimits()
    return reduce_trajectory(whole, whole.task.start, TRUST, limits, skip, max_candidates)


def part_of(*runs: Trajectory, skip: int = 0) -> ExplorationPart:
    return join_reduced(runs, [reduced(run, skip) for run in runs], cores=1)


def collected(
    asked: list[TrajectoryDoc] | int, parts: list[ExplorationPart | None], floor: float = 0.0
) -> ExplorationDoc:
    """Gather parts; those that are None were lost."""
    references = [SimpleNamespace(value=part, reference=part) for part in parts]
    gather = collect_exploration.original.__wrapped__
    document: ExplorationDoc = gather(floor, STAGE, TRUST, asked, references)
    return document


def trajectory(start: Frames, deviations: list[float], index: int = 0) -> Trajectory:
    task = tasks(start)[index]
    n = len(deviations)
    return Trajectory(
        task=task,
        frames=perturb(task.start, n, displacement=0.02, strain=0.0, seed=index),
        steps=np.arange(n) * 10,
        max_devi_f=np.array(deviations),
        max_devi_v=np.zeros(n),
        temperatures=np.full(n, float(task.temperature)),
        finished=n == 5,
        stop_reason="" if n == 5 else f"it exploded at step {10 * n}",
        seconds=2.0,
    )


def test_every_condition_meets_every_start(gold_copper: Frames) -> None:
    planned = tasks(gold_copper)
    assert len(planned) == 2 * 2 * 3
    assert {(t.temperature, t.pressure) for t in planned} == set(STAGE.conditions)
    assert [t.index for t in planned] == list(range(12))
    assert len({t.seed for t in planned}) == 12
    assert len({t.start.ids for t in planned}) == 12


def test_equal_seeds_plan_equal_trajectories(gold_copper: Frames) -> None:
    assert tasks(gold_copper) == tasks(gold_copper)
    assert tasks(gold_copper, seed=2) != tasks(gold_copper)


def test_a_lost_trajectory_moves_no_other_to_another_temperature(gold_copper: Frames) -> None:
    """The first trajectory, at 300 K, has no good frame; the last one's last frame is failed."""
    first = trajectory(gold_copper, [0.5, 0.5], 0)
    last = trajectory(gold_copper, [0.05, 0.2, 0.9, 0.9], 11)
    whole = [trajectory(gold_copper, [0.05] * 5, index) for index in range(1, 11)]
    asked = [planned(task) for task in tasks(gold_copper)]
    before = collected(asked, [part_of(first, *whole[::2]), part_of(last, *whole[1::2])])
    left_off = before.last_good_frames
    assert sorted(left_off) == list(range(1, 12))
    again = trajectory_tasks(STAGE, [gold_copper[:1]], Perturbation(), 2, left_off)
    assert again[0].start.ids[0] not in {run.frames.ids[-1] for run in whole}
    assert again[0].heat > 0
    for run, task in zip(whole, again[1:11], strict=True):
        assert task.start.ids == run.frames[-1:].ids
        assert (task.temperature, task.pressure) == (run.task.temperature, run.task.pressure)
        assert task.heat == 0
    assert again[11].start.ids == last.frames[1:2].ids


def test_a_cell_that_drifts_from_turn_to_turn_is_failed_in_the_end(gold_copper: Frames) -> None:
    original = gold_copper[:1]
    drifted = trajectory(gold_copper, [0.05] * 5)
    frames = replace(drifted.frames, cells=1.3 * drifted.frames.cells)  # beyond 1.8 in volume
    drifted = replace(
        drifted, frames=frames, task=drifted.task.model_copy(update={"start": frames[0]})
    )
    found = reduce_trajectory(drifted, original, TRUST, PhysicalLimits(), 0, 10)
    assert set(found.deviations["reason"].tolist()) == {"inflated cell"}


def test_models_take_turns_at_driving(gold_copper: Frames) -> None:
    models = ["a", "b", "c"]
    first = [task.in_turn(models) for task in tasks(gold_copper)]
    assert all(sorted(each) == models for each in first)
    counts = [sum(each[0] == model for each in first) for model in models]
    assert counts == [4, 4, 4]
    other = [task.in_turn(models)[0] for seed in range(5) for task in tasks(gold_copper, seed)[:1]]
    assert len(set(other)) > 1


def test_a_good_cold_frame_does_not_fail_of_its_perturbation(gold_copper: Frames) -> None:
    """What LGPS does at 50 K: 630 K after 14 fs from a perturbation of 0.2 Å, measured."""
    stage = STAGE.model_copy(update={"temperatures": [50.0], "dump_every": 7, "timestep": 2.0})
    perturbation = Perturbation(displacement=0.2)
    (task, *_) = trajectory_tasks(stage, [gold_copper[:1]], perturbation, 1)
    whole = replace(
        trajectory(gold_copper, [0.05] * 5),
        task=task,
        frames=perturb(task.start, 5, displacement=0.0, strain=0.0),
        steps=np.arange(5) * 7,
        temperatures=np.array([50.0, 632.0, 400.0, 300.0, 9000.0]),
    )
    verdicts = reduced(cooled(whole, LammpsSettings().thermostat_damping)).deviations["verdict"]
    assert verdicts.tolist() == ["accurate"] * 4 + ["failed"]
    late = replace(whole, steps=np.arange(5) * 7 + 2000)
    verdicts = reduced(cooled(late, LammpsSettings().thermostat_damping)).deviations["verdict"]
    assert verdicts.tolist() == ["accurate"] + ["failed"] * 4


def test_exploded_trajectories_do_not_vanish_from_the_accurate_fraction(
    gold_copper: Frames,
) -> None:
    """Two of three trajectories explode early, all of whose frames until then are accurate."""
    exploded = [trajectory(gold_copper, [0.05] * 2, index) for index in (0, 1)]
    whole = trajectory(gold_copper, [0.05] * 5, 2)
    asked = [planned(task) for task in tasks(gold_copper)[:3]]
    document = collected(asked, [part_of(*exploded, whole)])
    table = document.deviations
    selection = select(table, document.candidates, [], TRUST, SelectSettings(max_labels=5))
    assert selection.counts == VerdictCounts(accurate=2 * 2 + 5, failed=2 * 3)
    assert set(table["reason"][table["verdict"] == "failed"]) == {"never came: it exploded"}
    assert table["trajectory"].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert table["step"].tolist() == [0, 10, 20, 30, 40] * 3
    (counts,) = selection.conditions
    assert (counts.temperature, counts.failed, counts.composition) == (300.0, 6, "Au4Cu4")
    assert (document.n_finished, len(document.trajectories)) == (1, 3)
    (unfinished,) = document.unfinished
    assert unfinished.description == "2 at 300 K (Au4Cu4): it exploded"


def test_a_lost_batch_counts_as_failed(gold_copper: Frames) -> None:
    asked = [planned(task) for task in tasks(gold_copper)[:2]]
    whole = trajectory(gold_copper, [0.05] * 5, 0)
    document = collected(asked, [part_of(whole), None])
    selection = select(
        document.deviations, document.candidates, [], TRUST, SelectSettings(max_labels=5)
    )
    assert selection.counts == VerdictCounts(accurate=5, failed=4, skipped=1)
    assert [each.reason for each in document.unfinished] == ["its job failed"]
    assert document.n_lost == 1
    with pytest.raises(FloorError, match=r"1 of 2 trajectories.*see the explore jobs that failed"):
        collected(asked, [part_of(whole), None], floor=0.9)


def test_supercells_are_repeated(gold_copper: Frames) -> None:
    stage = STAGE.model_copy(update={"supercell": (2, 1, 1)})
    assert tasks(gold_copper, stage=stage)[0].start.n_atoms == 16


def test_only_candidates_travel_and_every_frame_is_judged(gold_copper: Frames) -> None:
    whole = trajectory(gold_copper, [0.05, 0.2, 0.25, 0.5, np.nan])
    found = reduced(whole)
    assert found.deviations["verdict"].tolist() == [
        Verdict.ACCURATE,
        Verdict.CANDIDATE,
        Verdict.CANDIDATE,
        Verdict.FAILED,
        Verdict.FAILED,
    ]
    assert found.deviations["frame"].tolist() == [-1, 0, 1, -1, -1]
    assert found.candidates.ids == whole.frames[[1, 2]].ids
    assert (found.last_good, found.final.ids) == (20, whole.frames[2].ids)


def test_frames_of_several_trajectories_count_through(gold_copper: Frames) -> None:
    runs = [trajectory(gold_copper, [0.2, 0.05, 0.2], 0), trajectory(gold_copper, [0.2] * 5, 1)]
    part = join_reduced(runs, [reduced(run, max_candidates=4) for run in runs], cores=2)
    assert part.deviations["frame"].tolist() == [0, -1, 1, 2, 3, -1, 4, 5]
    assert part.core_seconds == 8.0
    both = ExplorationDoc(stage=STAGE, trust=TRUST, trajectories=[], summary=[], parts=[part, part])
    frames = both.deviations["frame"]
    ids = [i for candidate in both.candidates for i in candidate.ids]
    assert sorted(frames[frames >= 0].tolist()) == list(range(len(ids)))
    assert [frame.ids for frame in part.final_frames] == [r.frames[-1].ids for r in runs]


def test_the_trajectories_of_a_job_share_its_gpu_and_outlive_it(
    gold_copper: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run(tasks: Any, models: Any, types: Any, settings: Any, folder: Path, *rest: Any) -> Any:
        asked.append((len(tasks), folder, *rest))
        return [trajectory(gold_copper, [0.2, 0.05, 0.2], task.index) for task in tasks]

    monkeypatch.setattr(lammps, "run_trajectories", run)
    monkeypatch.setattr(lammps, "version_of_run", lambda folder: "1 Jan 2020")
    monkeypatch.setenv(UNFINISHED, str(tmp_path))
    monkeypatch.setattr(CURRENT_JOB, "job", SimpleNamespace(uuid="a-job", index=1, metadata={}))
    maker = LammpsExploreMaker(per_gpu=3, cores=2)
    ensemble: Any = SimpleNamespace(members=[], kind="deepmd")
    part = explore_with_lammps.original(
        maker, ensemble, tasks(gold_copper)[:5], TRUST, 0, [gold_copper[:1]]
    )
    assert asked == [(5, tmp_path / "a-job-1", 3, "deepmd")]
    assert part.core_seconds == 2 * 5 * 2.0


def test_an_exploration_that_version_0_1_began_is_finished(
    gold_copper: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It entered jobs without originals, and stored tables without compositions."""
    whole = [trajectory(gold_copper, [0.05] * 5, index) for index in range(12)]
    monkeypatch.setattr(lammps, "run_trajectories", lambda *_: whole[4:8])
    monkeypatch.setattr(lammps, "version_of_run", lambda folder: "1 Jan 2020")
    monkeypatch.chdir(tmp_path)
    asked = [run.task for run in whole[4:8]]
    ensemble: Any = SimpleNamespace(members=[], kind="deepmd")
    second = explore_with_lammps.original(LammpsExploreMaker(), ensemble, asked, TRUST, 0)
    first = part_of(*whole[:4])
    columns = {k: v for k, v in first.deviations.columns.items() if k != "composition"}
    first = first.model_copy(update={"deviations": Table(columns)})
    for parts in ([first, second, None], [second, first, None]):
        found = collected(12, parts)
        assert [each.index for each in found.trajectories] == list(range(12))
        assert [each.temperature for each in found.trajectories] == [300] * 6 + [600] * 6
        assert (found.n_finished, found.n_lost) == (8, 4)
        counts = select(
            found.deviations, found.candidates, [], TRUST, SelectSettings(max_labels=5)
        ).counts
        assert (counts.accurate, counts.failed, counts.skipped) == (40, 16, 4)


def test_pressures_of_nvt_are_refused_without_a_run_file_too(gold_copper: Frames) -> None:
    stage = STAGE.model_copy(update={"ensemble": "npt-iso"})
    LammpsExploreMaker().make(None, stage, [gold_copper], TRUST)
    with pytest.raises(InputError, match="2 pressures, but NVT has none"):
        LammpsExploreMaker().make(None, STAGE, [gold_copper], TRUST)


def test_potentials_of_another_kind_are_refused_before_anything_runs(gold_copper: Frames) -> None:
    ensemble = SimpleNamespace(reference="the ensemble", value=SimpleNamespace(kind="other"))
    spread = spread_trajectories.original.__wrapped__
    with pytest.raises(InputError, match=r"runs potentials of the kind deepmd, .* kind other"):
        spread(LammpsExploreMaker(), ensemble, STAGE, [gold_copper[:1]], TRUST, 1, None)


def test_a_job_asks_for_the_cores_of_all_its_processes(gold_copper: Frames) -> None:
    maker = LammpsExploreMaker(per_gpu=3, cores=2, batch_size=8)
    ensemble = SimpleNamespace(reference="the ensemble", value=SimpleNamespace(kind="deepmd"))
    spread = spread_trajectories.original.__wrapped__
    flow = spread(maker, ensemble, STAGE, [gold_copper[:1]], TRUST, 1, None).replace
    assert [job.metadata["cores"] for job in flow.jobs] == [6, 6, 1]
    assert [len(job.function_args[2]) for job in flow.jobs[:2]] == [6, 6]


def test_thinning_keeps_both_ends() -> None:
    assert thin(np.arange(100), 5).tolist() == [0, 25, 50, 74, 99]
    assert thin(np.arange(3), 5).tolist() == [0, 1, 2]


def test_exploded_trajectories_are_tolerated_above_the_floor(gold_copper: Frames) -> None:
    good, bad = trajectory(gold_copper, [0.1] * 5), trajectory(gold_copper, [0.1])
    check_floor([document(good), document(bad)], floor=0.5)
    with pytest.raises(FloorError, match=r"0 of 2 trajectories.*explore\.floor.*it exploded"):
        check_floor([document(bad), document(bad)], floor=0.5)


def test_the_summary_leaves_out_what_does_not_count(gold_copper: Frames) -> None:
    whole = trajectory(gold_copper, [9.0, 0.1, 0.2, 0.3, np.nan])
    (summary,) = summarise(reduced(whole, skip=10).deviations)
    assert (summary.n_frames, summary.q50) == (3, pytest.approx(0.2))


def test_single_frames(gold_copper: Frames) -> None:
    assert [frame.ids[0] for frame in gold_copper] == list(gold_copper.ids)
