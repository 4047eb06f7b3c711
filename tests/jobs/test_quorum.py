"""Labels that are late: a turn goes on without them, and they join the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobflow import Flow, JobStore, run_locally

from ionloop.codes.common.acceptance import AcceptanceLimits, accept
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.engines.local.execution import RunSummary
from ionloop.engines.local.runner import LocalRunner
from ionloop.jobs.label.accounts import account, check_floor, join_late_labels, outstanding
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.label.imports import calculated
from ionloop.jobs.roles import FloorError
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels, LevelOfTheory

pytestmark = [
    pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Some jobs are not connected:UserWarning"),
]
LEVEL = LevelOfTheory(code="toy", settings={})


def maker(quorum: float, floor: float = 0.5, **options: Any) -> ForceFieldLabelMaker:
    settings = ForceFieldSettings(model="toy_labeller:ToyLabeller", options=options)
    return ForceFieldLabelMaker(settings=settings, batch_size=1, floor=floor, quorum=quorum)


def ran(flow: Flow, folder: Path, run: str) -> RunSummary:
    """Run a flow with the local runner, as part of a run."""
    flow.update_metadata({"run": run}, dynamic=True)
    url = str(folder / "ionloop.db")
    return LocalRunner(store_url=url, scratch=folder / "scratch", cores=2).run(flow, run)


def test_nothing_is_late_where_jobs_run_one_after_another(
    toy: Path, store: JobStore, gold_copper: Frames
) -> None:
    flow = maker(quorum=0.75).make([gold_copper])
    run_locally(flow, store=store, log=False, allow_external_references=True)
    labels: Labels = flow.output.resolve(store)
    assert (labels.n_requested, labels.n_accepted, labels.late) == (12, 12, [])
    assert len(toy.read_text().splitlines()) == 12
    assert store.count({"name": {"$regex": "^wait for 9 of 12"}}) == 1


@pytest.mark.integration
def test_a_late_label_joins(
    toy: Path, store: JobStore, gold_copper: Frames, tmp_path: Path
) -> None:
    slow = maker(quorum=0.9, slow_every=7, slow_seconds=8.0)
    frames = gold_copper[:10]
    flow = slow.make([frames])
    # A run of this name takes the slow frame last.
    assert ran(flow, tmp_path, "early").ok
    labels: Labels = flow.output.resolve(store)
    assert (labels.n_requested, labels.n_accepted, labels.rejections) == (10, 9, [])
    assert labels.late == outstanding([labels]) == [frames.ids[9]]

    join = join_late_labels(slow.level, outstanding([labels]))
    assert ran(Flow([join], output=join.output), tmp_path, "second").ok
    joined: Labels = join.output.resolve(store)
    assert joined.frames[0].ids == (frames.ids[9],)
    assert (joined.n_accepted, joined.late, outstanding([labels, joined])) == (1, [], [])
    assert len(toy.read_text().splitlines()) == 10


@pytest.mark.integration
def test_a_wait_ends_when_nothing_can_come(
    toy: Path, store: JobStore, gold_copper: Frames, tmp_path: Path
) -> None:
    frames = gold_copper[:10]
    flow = maker(quorum=0.9, kill_every=3).make([frames])
    ended = ran(flow, tmp_path, "lost")
    assert len(ended.failures) == 3
    labels: Labels = flow.output.resolve(store)
    assert (labels.n_accepted, labels.late) == (7, [frames.ids[i] for i in (0, 1, 3)])


def test_the_account_of_the_late(gold_copper: Frames) -> None:
    frames = gold_copper[:3]
    found = {label.frame_id: label for label in documents(frames[:2])}
    labels = account(LEVEL, list(frames.ids), found, set(found), late=True)
    assert (labels.n_requested, labels.n_accepted, labels.late) == (3, 2, [frames.ids[2]])
    lost = account(LEVEL, list(frames.ids), found, set(found))
    assert (lost.late, lost.rejections[0].frame_id) == ([], frames.ids[2])
    with pytest.raises(FloorError, match=r"2 of 3 labels .* rejected: 1 late"):
        check_floor(labels, floor=0.9, allowance=0)


@pytest.mark.parametrize(
    ("accepted", "lost", "goes_on"),
    [(8, 1, True), (7, 2, True), (6, 3, False), (1, 2, True), (0, 1, False), (90, 10, True)],
)
def test_a_small_turn_survives_two_losses_but_not_that_of_all(
    accepted: int, lost: int, goes_on: bool
) -> None:
    labels = Labels(level=LEVEL, n_requested=accepted + lost, n_accepted=accepted)
    if goes_on:
        check_floor(labels, floor=0.9, allowance=2)
    else:
        with pytest.raises(FloorError, match=r"label\.floor\) or a loss of 2 \(label\.allowance\)"):
            check_floor(labels, floor=0.9, allowance=2)


def documents(frames: Frames) -> list[Any]:
    n = len(frames)
    given = Frames(
        frames.symbols,
        frames.positions,
        frames.cells,
        np.zeros(n),
        np.zeros_like(frames.positions),
        np.zeros((n, 3, 3)),
    )
    limits = AcceptanceLimits()
    each = [given[index] for index in range(n)]
    return [accept(frame, calculated(frame), LEVEL, limits) for frame in each]
