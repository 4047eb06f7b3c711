"""Molecular dynamics by the labeller: every so many steps a label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jobflow import Job

from ionloop.codes.common.acceptance import Calculated, accept
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.forcefield.calculation import dynamics
from ionloop.jobs.decorators import stored_job
from ionloop.jobs.label.accounts import account, check_floor
from ionloop.jobs.label.ledger import current_ledger
from ionloop.jobs.placement import assign
from ionloop.jobs.provenance import stamp
from ionloop.jobs.roles import Reference
from ionloop.jobs.tolerances import in_force
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, Labels

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


@runtime_checkable
class AseSettings(Protocol):
    """Settings of a labeller that ASE can drive."""

    def ase_calculator(self, folder: Path, cores: int) -> Calculator:
        """Return an ASE calculator that works in `folder` on so many cores."""


def aimd_with_ase(maker: Any, frames: Reference, run: MolecularDynamics) -> Job:
    """Run molecular dynamics from a list of Frames with ASE; the output is a `Labels` document.

    Parameters
    ----------
    maker
        The labeller.
    frames
        List of Frames, the starts.
    run
        Temperature, length, and which steps are labels.

    Raises
    ------
    NotImplementedError
        If the labeller's settings give no ASE calculator.
    """
    if not isinstance(getattr(maker, "settings", None), AseSettings):
        raise NotImplementedError(
            f"{maker.name}: this labeller runs no molecular dynamics; leave initial.aimd out, or "
            "name the labels of a run that was made elsewhere in initial.data"
        )
    job = dynamics_with_ase(maker, frames, run)
    return assign(job, "label", f"AIMD at {run.temperature:g} K", maker.cores)


@stored_job(Labels, expose_store=True)
def dynamics_with_ase(maker: Any, frames: list[Frames], run: MolecularDynamics) -> Labels:
    """Run molecular dynamics from every frame, and record every so many steps as labels."""
    singles = [part[index] for part in frames for index in range(len(part))]
    return enter(maker, (doc for frame in singles for doc in trajectory(maker, frame, run)))


def trajectory(maker: Any, frame: Frames, run: MolecularDynamics) -> Iterator[LabelDoc]:
    """Run molecular dynamics from one frame with ASE; yield the steps that are kept as labels."""
    folder = Path.cwd() / f"aimd-{frame.ids[0]}"
    calculator = maker.settings.ase_calculator(folder, maker.cores)
    for step in dynamics(calculator, frame, run):
        yield judge(maker, frame, run, replace(step, cores=maker.cores))


def judge(maker: Any, start: Frames, run: MolecularDynamics, step: Calculated) -> LabelDoc:
    """Judge a step of a trajectory, as the label of the configuration on the grid of the ids."""
    assert step.positions is not None and step.cell is not None
    visited = Frames(start.symbols, step.positions[None], step.cell[None]).snapped()
    group = f"aimd {start.ids[0]} {run.temperature:g} K {run.timestep:g} fs"
    return accept(visited.of_group(group), step, maker.level, maker.settings.limits)


def enter(maker: Any, documents: Iterable[LabelDoc]) -> Labels:
    """Enter labels into the ledger, each as soon as it is there; return their account.

    A label that is there, of a run that was repeated or of any other, stays.

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
