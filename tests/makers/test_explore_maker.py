from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from jobflow import CURRENT_JOB

from ionloop.codes import lammps
from ionloop.codes.lammps import Trajectory
from ionloop.codes.structures import perturb
from ionloop.makers.base import UNFINISHED, FloorError
from ionloop.makers.explore import (
    LammpsExploreMaker,
    Perturbation,
    check_floor,
    document,
    explore_with_lammps,
    join_reduced,
    reduce_trajectory,
    single_frames,
    spread_trajectories,
    summarise,
    thin,
    trajectory_tasks,
)
from ionloop.schemas.exploration import ExplorationDoc, Stage
from ionloop.schemas.frames import Frames
from ionloop.schemas.selection import TrustWindow, Verdict
from ionloop.selection import PhysicalLimits

TRUST = TrustWindow(low=0.1, high=0.3)
STAGE = Stage(
    temperatures=[300.0, 600.0], pressures=[1.0, 1e4], steps=40, n_structures=3, dump_every=10
)


def tasks(start: Frames, seed: int = 1, stage: Stage = STAGE) -> list:  # type: ignore[type-arg]
    return trajectory_tasks(stage, [start[:1]], Perturbation(displacement=0.05), seed)


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
        stop_reason="" if n == 5 else "it exploded",
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


def test_continued_trajectories_start_from_the_final_frames_in_turn(gold_copper: Frames) -> None:
    finals = single_frames(gold_copper[:5])
    planned = trajectory_tasks(STAGE, [gold_copper[:1]], Perturbation(), 1, finals)
    assert len(planned) == 2 * 2 * 3
    assert [t.start.ids[0] for t in planned] == [gold_copper.ids[i % 5] for i in range(12)]


def test_supercells_are_repeated(gold_copper: Frames) -> None:
    stage = STAGE.model_copy(update={"supercell": (2, 1, 1)})
    assert tasks(gold_copper, stage=stage)[0].start.n_atoms == 16


def test_only_candidates_travel_and_every_frame_is_judged(gold_copper: Frames) -> None:
    whole = trajectory(gold_copper, [0.05, 0.2, 0.25, 0.5, np.nan])
    reduced = reduce_trajectory(whole, TRUST, PhysicalLimits(), skip=0, max_candidates=10)
    assert reduced.deviations["verdict"].tolist() == [
        Verdict.ACCURATE,
        Verdict.CANDIDATE,
        Verdict.CANDIDATE,
        Verdict.FAILED,
        Verdict.FAILED,
    ]
    assert reduced.deviations["frame"].tolist() == [-1, 0, 1, -1, -1]
    assert reduced.candidates.ids == whole.frames[[1, 2]].ids
    assert reduced.final.ids == whole.frames[-1].ids


def test_frames_of_several_trajectories_count_through(gold_copper: Frames) -> None:
    runs = [trajectory(gold_copper, [0.2, 0.05, 0.2], 0), trajectory(gold_copper, [0.2] * 5, 1)]
    reduced = [reduce_trajectory(run, TRUST, PhysicalLimits(), 0, 4) for run in runs]
    part = join_reduced(runs, reduced, cores=2)
    assert part.deviations["frame"].tolist() == [0, -1, 1, 2, 3, -1, 4, 5]
    assert part.core_seconds == 8.0
    both = ExplorationDoc(stage=STAGE, trust=TRUST, trajectories=[], summary=[], parts=[part, part])
    frames = both.deviations["frame"]
    ids = [i for candidate in both.candidates for i in candidate.ids]
    assert sorted(frames[frames >= 0].tolist()) == list(range(len(ids)))
    assert [frame.ids for frame in part.final_frames] == [r.frames[-1].ids for r in runs]
    whole = both.model_copy(update={"parts": [part]})
    assert [frame.ids for frame in whole.final_frames] == [r.frames[-1].ids for r in runs]


def test_the_trajectories_of_a_job_share_its_gpu_and_outlive_it(
    gold_copper: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run(tasks: Any, models: Any, type_map: Any, settings: Any, folder: Path, n: int) -> Any:
        asked.append((len(tasks), folder, n))
        return [trajectory(gold_copper, [0.2, 0.05, 0.2], task.index) for task in tasks]

    monkeypatch.setattr(lammps, "run_trajectories", run)
    monkeypatch.setattr(lammps, "version_of_run", lambda folder: "1 Jan 2020")
    monkeypatch.setenv(UNFINISHED, str(tmp_path))
    monkeypatch.setattr(CURRENT_JOB, "job", SimpleNamespace(uuid="a-job", index=1, metadata={}))
    maker = LammpsExploreMaker(per_gpu=3, cores=2)
    ensemble: Any = SimpleNamespace(members=[])
    part = explore_with_lammps.original(maker, ensemble, tasks(gold_copper)[:5], TRUST, 0)
    assert asked == [(5, tmp_path / "a-job-1", 3)]
    assert part.core_seconds == 2 * 5 * 2.0


def test_a_job_asks_for_the_cores_of_all_its_processes(gold_copper: Frames) -> None:
    maker = LammpsExploreMaker(per_gpu=3, cores=2, batch_size=8)
    ensemble = SimpleNamespace(reference="the ensemble")
    spread = spread_trajectories.original.__wrapped__
    flow = spread(maker, ensemble, STAGE, [gold_copper[:1]], TRUST, 1, None).replace
    assert [job.metadata["cores"] for job in flow.jobs] == [6, 6, 1]
    assert [len(job.function_args[2]) for job in flow.jobs[:2]] == [6, 6]


def test_thinning_keeps_both_ends() -> None:
    assert thin(np.arange(100), 5).tolist() == [0, 25, 50, 74, 99]
    assert thin(np.arange(3), 5).tolist() == [0, 1, 2]


def test_exploded_trajectories_are_tolerated_above_the_floor(gold_copper: Frames) -> None:
    good, bad = trajectory(gold_copper, [0.1] * 5), trajectory(gold_copper, [0.1])
    check_floor([document(good), document(bad)], 2, floor=0.5)
    with pytest.raises(FloorError, match=r"0 of 2 trajectories.*explore\.floor.*it exploded"):
        check_floor([document(bad), document(bad)], 2, floor=0.5)
    with pytest.raises(FloorError, match="see the explore jobs that failed"):
        check_floor([], 2, floor=0.5)


def test_the_summary_leaves_out_what_does_not_count(gold_copper: Frames) -> None:
    whole = trajectory(gold_copper, [9.0, 0.1, 0.2, 0.3, np.nan])
    reduced = reduce_trajectory(whole, TRUST, PhysicalLimits(), skip=10, max_candidates=10)
    (summary,) = summarise(reduced.deviations)
    assert (summary.n_frames, summary.q50) == (3, pytest.approx(0.2))


def test_single_frames(gold_copper: Frames) -> None:
    assert [frame.ids[0] for frame in single_frames(gold_copper)] == list(gold_copper.ids)
