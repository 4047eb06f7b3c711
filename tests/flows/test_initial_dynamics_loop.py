"""A loop that begins with the labeller's own MD: VASP in one piece, ASE step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ionloop.schemas.label import Labels, LabelStatus

pytestmark = pytest.mark.integration

# Two temperatures, one start: two runs of seven labels each.
AIMD = {"temperatures": [300, 700], "steps": 24, "every": 3, "skip": 3}
VASP = {"code": "vasp", "encut": 300, "kpoints": "gamma", "potcars": {"Au": "Au", "Cu": "Cu"}}


def run(place: Any, **changes: Any) -> None:
    """Run the toy run file for one turn, its initial data those of AIMD from a relaxed cell."""
    initial = {"n_perturbed": 0, "relax": True, "aimd": [AIMD]}
    place.write(initial=initial, limits={"max_turns": 1}, select={"max_labels": 2})
    place.replace(without="validation", **changes)
    place.run("run", "run.yaml")


def check_account(place: Any) -> None:
    """Hold the initial labels against the account of the turn, of the run, and the ledger."""
    initial = [labels for labels in place.documents(Labels) if labels.iteration is None]
    assert [(each.n_requested, each.n_accepted) for each in initial] == [(7, 7), (7, 7)]
    (turn,) = place.turns()
    summary = place.summary()
    assert turn.n_training_frames == 14 + turn.n_accepted
    assert summary.n_labels == 14 + turn.n_requested
    assert 0 < sum(each.core_seconds for each in initial) < 3600 * summary.core_hours
    ids = [frame_id for each in initial for part in each.frames for frame_id in part.ids]
    accepted = {doc.frame_id for doc in place.labels() if doc.status is LabelStatus.ACCEPTED}
    assert len(set(ids)) == 14
    assert set(ids) <= accepted


def test_a_loop_begins_with_aimd_by_vasp(vasp: Any, new_place: Callable[..., Any]) -> None:
    place = new_place()
    run(place, label=VASP | {"vasp_cmd": vasp.command, "relax_fmax": 0.05})
    check_account(place)
    folders = [name.partition("-")[0] for name in vasp.starts]
    assert (folders.count("relax"), folders.count("aimd")) == (1, 2)


def test_a_loop_begins_with_md_by_ase(new_place: Callable[..., Any]) -> None:
    place = new_place()
    run(place)
    check_account(place)
