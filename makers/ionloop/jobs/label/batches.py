"""Labelling: spread frames over jobs, calculate what is missing, account for every frame."""

from __future__ import annotations

import hashlib
import math
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobflow import Flow, Job, OnMissing, OutputReference, Response

from ionloop.codes.common.acceptance import Terms, accept, stands
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.common.labeller import Labeller
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.jobs.context import metadata
from ionloop.jobs.documents import collecting_job, stamp, stored_job
from ionloop.jobs.label.accounts import ALLOWANCE, collect_labels
from ionloop.jobs.label.dynamics import run_dynamics
from ionloop.jobs.label.ledger import current_ledger
from ionloop.jobs.label.record import LabelBatch, by_id, record_labels, without_twins
from ionloop.jobs.label.twins import distinct
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.roles import LabelMaker, Reference
from ionloop.jobs.tolerances import in_force
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.label import LabelDoc, LevelOfTheory

POLL_SECONDS = 5.0
"""Interval in s at which the labels that have come in are counted."""


@dataclass
class BatchLabelMaker(LabelMaker):
    """Labels frames in batches, one job each.

    Parameters
    ----------
    batch_size
        Frames per job. Every label is safe in the ledger as soon as it is calculated, so a
        larger batch risks nothing and starts the program less often.
    floor
        Smallest accepted fraction with which a turn goes on.
    allowance
        Labels that may be lost whatever the fraction, as long as one is accepted.
    quorum
        Fraction of the labels with which a turn goes on while the others are still calculated;
        those join the next turn.
    cores
        Cores of one job.
    settings
        What calculates the labels: level of theory, limits, and one way to calculate a frame.
    """

    batch_size: int = 25
    floor: float = 0.9
    allowance: int = ALLOWANCE
    quorum: float = 1.0
    cores: int = 1
    settings: Labeller = field(default_factory=ForceFieldSettings)

    @property
    def level(self) -> LevelOfTheory:
        """The level of theory of the labels."""
        return self.settings.level

    @property
    def terms(self) -> Terms:
        """Conditions on which a label is taken from the ledger or calculated anew."""
        return Terms(level=self.level, limits=self.settings.limits, effort=self.settings.effort)

    def for_all(self) -> BatchLabelMaker:
        """Return the Maker that waits for every label: no later step could use late ones."""
        return replace(self, quorum=1.0)

    def label(self, frame: Frames) -> LabelDoc:
        """Calculate one frame in a folder of its own below the current one; judge the result."""
        begin = time.perf_counter()
        result = self.settings.calculate(frame, Path.cwd() / frame.ids[0], self.cores)
        seconds = result.seconds or time.perf_counter() - begin
        return accept(frame, replace(result, seconds=seconds), self.level, self.settings.limits)

    def batch(self, frames: list[Frames], frame_ids: list[str]) -> Job:
        """Return the job that labels some frames and records each label.

        Parameters
        ----------
        frames
            List of Frames that hold them.
        frame_ids
            Ids of the frames to label.
        """
        return assign(label_frames(self, frames, frame_ids), Role.LABEL, "label", self.cores)

    def relax(self, frames: Reference) -> Job:
        """Relax cells and positions of a list of Frames; the output is a list of Frames."""
        return assign(relax_frames(self, frames), Role.LABEL, "relax", self.cores)

    def aimd(self, frames: Reference, run: MolecularDynamics) -> Job:
        """Run molecular dynamics from a list of Frames; the output is a `Labels` document.

        Parameters
        ----------
        frames
            List of Frames: the starts.
        run
            Temperature, length, and which steps become labels.
        """
        job = run_dynamics(self, frames, run)
        return assign(job, Role.LABEL, f"AIMD at {run.temperature:g} K", self.cores)

    def batches(self, frames: Sequence[Frames], frame_ids: list[str]) -> list[Job]:
        """Return the jobs that label some frames; each holds its own frames.

        Parameters
        ----------
        frames
            Frames that hold them.
        frame_ids
            Ids of the frames to label.
        """
        size = self.batch_size
        parts = [frame_ids[start : start + size] for start in range(0, len(frame_ids), size)]
        jobs = [self.batch(concatenate(by_id(frames, part)), part) for part in parts]
        for number, job in enumerate(jobs, 1):
            job.append_name(f" batch {number} of {len(jobs)}")
        return jobs

    def make(self, frames: Reference) -> Flow:
        """Label a list of Frames; the output is a `Labels` document.

        What is in the ledger at this level of theory is not calculated again.
        """
        jobs = []
        if not isinstance(frames, OutputReference):
            jobs.append(assign(hold_frames(frames), Role.LABEL, "hold frames", bookkeeping=True))
            frames = jobs[0].output
        spread = assign(spread_labels(self, frames), Role.LABEL, "spread labels", bookkeeping=True)
        return Flow([*jobs, spread], output=spread.output, name=self.name)


@stored_job(LabelBatch, expose_store=True)
def label_frames(
    maker: BatchLabelMaker | Labeller, frames: list[Frames], frame_ids: list[str]
) -> LabelBatch:
    """Label frames one by one, each in a folder of its own, and record each label at once.

    Parameters
    ----------
    maker
        The labeller. Jobs that version 0.1 stored may hold its settings alone.
    frames
        Frames that hold those to label.
    frame_ids
        Ids of the frames to label.
    """
    maker = in_force(_as_maker(maker))
    n_calculated = record_labels(by_id(frames, frame_ids), maker.terms, maker.label, maker.cores)
    return LabelBatch(**stamp(maker.settings), frame_ids=frame_ids, n_calculated=n_calculated)


@stored_job()
def relax_frames(maker: BatchLabelMaker | Labeller, frames: list[Frames]) -> list[Frames]:
    """Relax cells and positions of every frame.

    Parameters
    ----------
    maker
        As for `label_frames`.
    frames
        What to relax.
    """
    maker = _as_maker(maker)
    return [
        maker.settings.relax(frame, Path.cwd() / f"relax-{frame.ids[0]}", maker.cores)
        for part in frames
        for frame in part
    ]


def _as_maker(maker: BatchLabelMaker | Labeller) -> BatchLabelMaker:
    return BatchLabelMaker(settings=maker) if isinstance(maker, Labeller) else maker


@stored_job()
def hold_frames(frames: list[Frames]) -> list[Frames]:
    """Put frames into the store once, so that every batch can refer to them."""
    return list(frames)


@collecting_job()
def spread_labels(maker: BatchLabelMaker, frames: Any) -> Response[Any]:
    """Spread the frames that have no label yet over batches.

    Parameters
    ----------
    maker
        The labeller.
    frames
        List of Frames, together with the reference to it.
    """
    maker = in_force(maker)
    missing = _missing(maker.terms, frames.value)
    quorum = math.ceil(maker.quorum * len(missing))
    if quorum < len(missing):
        return _without_the_late(maker, frames.reference, missing, quorum)
    batches = maker.batches(frames.value, missing)
    # These references only make the account wait, so they leave out the schemas of the outputs:
    # FireWorks reads the account's inputs again whenever one of a thousand batches ends.
    awaited = [OutputReference(batch.uuid) for batch in batches]
    collect = _collect(maker, frames.reference, missing, awaited)
    return Response(replace=Flow([*batches, collect], output=collect.output))


def _missing(terms: Terms, frames: Sequence[Frames]) -> list[str]:
    """Return the ids of the frames that need a calculation, those that others calculate last.

    Each run has its own order, so that two runs that start at the same time share the work.
    Records of earlier failed attempts are removed, so that they do not count as answers.
    """
    ledger = current_ledger()
    missing = without_twins(ledger.unsettled(distinct(frames), terms), terms)
    left = ledger.find(missing, terms.level).values()
    # Labels that another run has finished in the meantime stay.
    ledger.forget(label for label in left if not stands(label, terms))
    theirs = ledger.being_calculated(by_id(frames, missing), terms.level)
    run = metadata().get("run")

    def order(frame_id: str) -> tuple[bool, str]:
        shuffled = hashlib.sha256(f"{run} {frame_id}".encode()).hexdigest() if run else ""
        return frame_id in theirs, shuffled

    return sorted(missing, key=order)


def _without_the_late(
    maker: BatchLabelMaker, frames: Reference, missing: list[str], quorum: int
) -> Response[Any]:
    """Account for the labels as soon as the quorum is reached, without waiting for every batch."""
    start = start_labels(maker, frames, missing)
    assign(start, Role.LABEL, "start labels", bookkeeping=True)
    wait = await_quorum(maker.level, missing, quorum, start.output)
    name = f"wait for {quorum} of {len(missing)} labels"
    assign(wait, Role.LABEL, name, cores=0, bookkeeping=True)
    collect = _collect(maker, frames, missing, [wait.output], late=True)
    # A failed batch costs its labels only, but without the wait there is nothing to account for.
    collect.config.on_missing_references = OnMissing.ERROR
    return Response(replace=Flow([start, wait, collect], output=collect.output))


def _collect(
    maker: BatchLabelMaker, frames: Reference, missing: list[str], awaited: list[Any], **late: bool
) -> Job:
    options: dict[str, Any] = {"allowance": maker.allowance, "limits": maker.terms.limits, **late}
    job = collect_labels(maker.level, maker.floor, frames, missing, awaited, **options)
    return assign(job, Role.LABEL, "account for labels", bookkeeping=True)


@stored_job(expose_store=True)
def start_labels(
    maker: BatchLabelMaker, frames: list[Frames], frame_ids: list[str]
) -> Response[Any]:
    """Start the batches; no other job waits for them.

    Parameters
    ----------
    maker
        The labeller.
    frames
        Frames that hold those to label.
    frame_ids
        Ids of the frames to label.
    """
    batches = in_force(maker).batches(frames, frame_ids)
    return Response(output=len(batches), addition=Flow([*batches]))


@stored_job(expose_store=True)
def await_quorum(level: LevelOfTheory, frame_ids: list[str], quorum: int, n_batches: int) -> int:
    """Wait until `quorum` frames have a label or a failed attempt at one; return their number.

    It uses no core. A runner that sees that no other job is running, so that no more labels will
    come, sends the signal SIGUSR1.

    Parameters
    ----------
    level
        Level of theory of the labels.
    frame_ids
        Ids of the frames to label.
    quorum
        Number of frames to wait for.
    n_batches
        Output of the job that started the batches; it makes this job wait for that one.
    """
    abandoned = threading.Event()
    # Without an engine jobs run one after another: the batches are through already.
    inline = metadata().get("run") is None
    if not inline and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, lambda *_: abandoned.set())
    while (n := current_ledger().count(frame_ids, level)) < quorum:
        if inline or abandoned.wait(POLL_SECONDS):
            break
    return n
