"""Molecular dynamics by the labeller: every so many steps a label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from ionloop.codes.common.acceptance import Calculated, accept
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.jobs.documents import stamp, stored_job
from ionloop.jobs.label.accounts import account, check_floor
from ionloop.jobs.label.ledger import current_ledger
from ionloop.jobs.tolerances import in_force
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, Labels


@stored_job(Labels, expose_store=True)
def run_dynamics(maker: Any, frames: list[Frames], run: MolecularDynamics) -> Labels:
    """Run molecular dynamics from every frame, and record the steps that are kept as labels.

    Parameters
    ----------
    maker
        A `BatchLabelMaker`.
    frames
        The starts.
    run
        Temperature, length, and which steps become labels.
    """
    starts = chain.from_iterable(frames)
    return enter(maker, (label for start in starts for label in trajectory(maker, start, run)))


def trajectory(maker: Any, frame: Frames, run: MolecularDynamics) -> Iterator[LabelDoc]:
    """Run molecular dynamics from one frame; yield the steps that are kept as labels.

    Parameters
    ----------
    maker, run
        As for `run_dynamics`.
    frame
        Frames of one: the start.
    """
    folder = Path.cwd() / f"aimd-{frame.ids[0]}"
    for step in maker.settings.dynamics(frame, run, folder, maker.cores):
        yield judge(maker, frame, run, replace(step, cores=maker.cores))


def judge(maker: Any, start: Frames, run: MolecularDynamics, step: Calculated) -> LabelDoc:
    """Judge a step of a trajectory as the label of its configuration, on the grid of the ids.

    Parameters
    ----------
    maker, run
        As for `run_dynamics`.
    start
        The frame that the trajectory started from.
    step
        The step, with positions and cell.
    """
    assert step.positions is not None and step.cell is not None
    visited = Frames(start.symbols, step.positions[None], step.cell[None]).snapped()
    group = f"aimd {start.ids[0]} {run.temperature:g} K {run.timestep:g} fs"
    return accept(visited.of_group(group), step, maker.level, maker.settings.limits)


def enter(maker: Any, documents: Iterable[LabelDoc]) -> Labels:
    """Enter labels into the ledger, each as soon as it is calculated; return their account.

    A label that the ledger already has stays.

    Parameters
    ----------
    maker
        A `BatchLabelMaker`.
    documents
        The labels.

    Raises
    ------
    FloorError
        If the accepted fraction is below the labeller's floor.
    """
    ledger = current_ledger()
    belongs = {**stamp(maker.settings), "effort": maker.terms.effort}
    found: dict[str, LabelDoc] = {}
    for document in documents:
        there = ledger.settled([document.frame_id], maker.terms)
        label = there.get(document.frame_id) or document.model_copy(update=belongs)
        found[label.frame_id] = label
        if not there:
            ledger.record([label])
    labels = account(maker.level, list(found), found, calculated=set(found))
    tolerant = in_force(maker)
    check_floor(labels, tolerant.floor, tolerant.allowance)
    return labels.model_copy(update=stamp(maker.level))
