"""Labelling: spread frames over jobs, buy what is missing, account for every frame."""

from __future__ import annotations

import hashlib
import math
import signal
import threading
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobflow import Flow, Job, OnMissing, OutputReference, Response

from ionloop.codes.common.acceptance import Terms, stands
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.jobs.context import metadata
from ionloop.jobs.decorators import collecting_job, stored_job
from ionloop.jobs.label.accounts import ALLOWANCE, collect_labels, unique_ids
from ionloop.jobs.label.dynamics import aimd_with_ase
from ionloop.jobs.label.ledger import current_ledger
from ionloop.jobs.label.record import by_id, without_twins
from ionloop.jobs.placement import assign
from ionloop.jobs.roles import LabelMaker, Reference
from ionloop.jobs.tolerances import in_force
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.label import LabelDoc, LevelOfTheory

POLL_SECONDS = 5.0
"""How often it is looked how many labels are in, in s."""


@dataclass
class BatchLabelMaker(LabelMaker):
    """Base class of labellers that calculate frames in batches.

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
    """

    name: str = "label"
    batch_size: int = 25
    floor: float = 0.9
    allowance: int = ALLOWANCE
    quorum: float = 1.0
    cores: int = 1

    def for_all(self) -> BatchLabelMaker:
        """Return the Maker that waits for every label: nothing comes that late ones could join."""
        return replace(self, quorum=1.0)

    @abstractmethod
    def batch(self, frames: list[Frames], frame_ids: list[str]) -> Job:
        """Return the job that labels the frames with the given ids and records each label."""

    def label(self, frame: Frames) -> LabelDoc:
        """Calculate one frame, with its files below the current folder, and judge the result."""
        raise NotImplementedError(f"{self.name}: frames are not calculated one by one")

    def aimd(self, frames: Reference, run: MolecularDynamics) -> Job:
        """Run molecular dynamics with ASE, where the settings give an ASE calculator."""
        return aimd_with_ase(self, frames, run)

    def batches(self, frames: Sequence[Frames], frame_ids: list[str]) -> list[Job]:
        """Return the jobs that label the frames with the given ids; each holds its own frames."""
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
            jobs.append(assign(hold_frames(frames), "label", "hold frames", light=True))
            frames = jobs[0].output
        spread = assign(spread_labels(self, frames), "label", "spread labels", light=True)
        return Flow([*jobs, spread], output=spread.output, name=self.name)


@stored_job()
def hold_frames(frames: list[Frames]) -> list[Frames]:
    """Put frames into the store once, so that every batch can refer to them."""
    return list(frames)


@collecting_job()
def spread_labels(maker: BatchLabelMaker, frames: Any) -> Response[Any]:
    """Spread the frames that have no label yet over batches."""
    maker = in_force(maker)
    missing = _missing(maker.terms, frames.value)
    quorum = math.ceil(maker.quorum * len(missing))
    if quorum < len(missing):
        return _without_the_late(maker, frames.reference, missing, quorum)
    batches = maker.batches(frames.value, missing)
    # Nothing but the wait is in these, so they go without the schemas of the outputs: FireWorks
    # reads the account's inputs anew whenever one of a thousand batches ends.
    awaited = [OutputReference(batch.uuid) for batch in batches]
    collect = collect_labels(
        maker.level,
        maker.floor,
        frames.reference,
        missing,
        awaited,
        allowance=maker.allowance,
        limits=maker.terms.limits,
    )
    assign(collect, "label", "account for labels", light=True)
    return Response(replace=Flow([*batches, collect], output=collect.output))


def _missing(terms: Terms, frames: Sequence[Frames]) -> list[str]:
    """Return the ids of the frames that need a calculation, first those that nobody works on.

    Each run takes them in an order of its own, so that two that start at once share the work.
    What is left of earlier attempts at them is removed, so that nobody takes it for the answer.
    """
    ledger = current_ledger()
    wanted = unique_ids(frames)
    settled = ledger.settled(wanted, terms)
    unsettled = [frame_id for frame_id in wanted if frame_id not in settled]
    missing = without_twins(by_id(frames, unsettled), terms)
    left = ledger.find(missing, terms.level).values()
    # What another run has finished meanwhile stays.
    ledger.forget(label for label in left if not stands(label, terms))
    theirs = ledger.being_calculated(by_id(frames, missing), terms.level)
    run = metadata().get("run")
    return sorted(missing, key=lambda i: (i in theirs, _shuffled(run, i)))


def _shuffled(run: str | None, frame_id: str) -> str:
    return hashlib.sha256(f"{run} {frame_id}".encode()).hexdigest() if run else ""


def _without_the_late(
    maker: BatchLabelMaker, frames: Reference, missing: list[str], quorum: int
) -> Response[Any]:
    """Account for the labels when the quorum is in; nothing waits for the batches themselves."""
    start = assign(start_labels(maker, frames, missing), "label", "start labels", light=True)
    wait = await_quorum(maker.level, missing, quorum, start.output)
    assign(wait, "label", f"wait for {quorum} of {len(missing)} labels", cores=0, light=True)
    collect = collect_labels(
        maker.level,
        maker.floor,
        frames,
        missing,
        [wait.output],
        late=True,
        allowance=maker.allowance,
        limits=maker.terms.limits,
    )
    # Here a failed parent is no lost batch: without the wait there would be nothing to account for.
    collect.config.on_missing_references = OnMissing.ERROR
    assign(collect, "label", "account for labels", light=True)
    return Response(replace=Flow([start, wait, collect], output=collect.output))


@stored_job(expose_store=True)
def start_labels(
    maker: BatchLabelMaker, frames: list[Frames], frame_ids: list[str]
) -> Response[Any]:
    """Start the batches; no other job waits for them."""
    batches = in_force(maker).batches(frames, frame_ids)
    return Response(output=len(batches), addition=Flow([*batches]))


@stored_job(expose_store=True)
def await_quorum(level: LevelOfTheory, frame_ids: list[str], quorum: int, n_batches: int) -> int:
    """Wait until so many of the frames have a label or a failed attempt at one; return how many.

    It uses no core. A runner that sees that nothing else is at work any more, so that nothing will
    come, says so by the signal SIGUSR1.
    """
    abandoned = threading.Event()
    # Without an engine jobs run one after another: the batches have ended.
    inline = metadata().get("run") is None
    if not inline and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, lambda *_: abandoned.set())
    while (n := current_ledger().count(frame_ids, level)) < quorum:
        if inline or abandoned.wait(POLL_SECONDS):
            break
    return n
