"""Molecular dynamics by the labeller: every so many steps a label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from ionloop.codes.common.acceptance import accept
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

    Each label is recorded as soon as it is calculated. A label that the ledger already has stays.

    Parameters
    ----------
    maker
        A `BatchLabelMaker`.
    frames
        The starts.
    run
        Temperature, length, and which steps become labels.

    Raises
    ------
    FloorError
        If the accepted fraction is below the labeller's floor.
    """
    ledger, terms = current_ledger(), maker.terms
    belongs = {**stamp(maker.settings), "effort": terms.effort}
    found: dict[str, LabelDoc] = {}
    starts = chain.from_iterable(frames)
    for document in chain.from_iterable(trajectory(maker, start, run) for start in starts):
        there = ledger.settled([document.frame_id], terms)
        label = there.get(document.frame_id) or document.model_copy(update=belongs)
        found[label.frame_id] = label
        if not there:
            ledger.record([label])
    labels = account(maker.level, list(found), found, calculated=set(found))
    tolerant = in_force(maker)
    check_floor(labels, tolerant.floor, tolerant.allowance)
    return labels.model_copy(update=stamp(maker.level))


def trajectory(maker: Any, start: Frames, run: MolecularDynamics) -> Iterator[LabelDoc]:
    """Run molecular dynamics from one frame; yield the steps that are kept as labels.

    Each step is judged as the label of its configuration, on the grid of the ids.

    Parameters
    ----------
    maker, run
        As for `run_dynamics`.
    start
        Frames of one.
    """
    folder = Path.cwd() / f"aimd-{start.ids[0]}"
    group = f"aimd {start.ids[0]} {run.temperature:g} K {run.timestep:g} fs"
    for step in maker.settings.dynamics(start, run, folder, maker.cores):
        visited = Frames(start.symbols, step.positions[None], step.cell[None]).snapped()
        result = replace(step, cores=maker.cores)
        yield accept(visited.of_group(group), result, maker.level, maker.settings.limits)
