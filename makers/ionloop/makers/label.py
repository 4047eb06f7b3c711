"""Labelling: spread frames over jobs, buy what is missing, account for every frame."""

from __future__ import annotations

import hashlib
import math
import signal
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobflow import Flow, Job, OnMissing, OutputReference, Response

from ionloop.codes import forcefield
from ionloop.codes.acceptance import AcceptanceLimits, Terms, accept, failed, stands
from ionloop.codes.conversions import FrameFileError, read_frames, unconverged
from ionloop.codes.forcefield import ForceFieldSettings
from ionloop.makers.base import (
    FloorError,
    LabelMaker,
    Reference,
    assign,
    collecting_job,
    metadata,
    stamp,
    stored_job,
)
from ionloop.makers.imports import enter, judge
from ionloop.makers.ledger import current_ledger
from ionloop.makers.tolerances import changed, in_force
from ionloop.makers.twins import adopt_twins, distinct
from ionloop.schemas.dataset import in_stretches
from ionloop.schemas.document import Document
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.label import (
    LabelDoc,
    Labels,
    LabelStatus,
    LevelOfTheory,
    Rejection,
    RejectReason,
)
from ionloop.selection.physical import PhysicalLimits
from ionloop.selection.plausible import doubts

ALLOWANCE = 2
"""Labels that a step may lose whatever the floor, by default."""

POLL_SECONDS = 5.0
"""How often it is looked how many labels are in, in s."""


class LabelBatch(Document):
    """Receipt of a batch: its labels are in the ledger."""

    frame_ids: list[str]
    n_calculated: int


class LabellerError(IonloopError, RuntimeError):
    """Some frames of a batch gave no result."""


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


@dataclass
class ForceFieldLabelMaker(BatchLabelMaker):
    """Labels from a universal potential or any ASE calculator.

    Parameters
    ----------
    settings
        Which potential, and the limits on its labels.
    """

    name: str = "label with a force field"
    settings: ForceFieldSettings = field(default_factory=ForceFieldSettings)

    @property
    def level(self) -> LevelOfTheory:
        """The level of theory of the labels."""
        return forcefield.level_of_theory(self.settings)

    @property
    def terms(self) -> Terms:
        """On what terms labels are taken from the ledger, or bought."""
        return Terms(level=self.level, limits=self.settings.limits)

    def batch(self, frames: list[Frames], frame_ids: list[str]) -> Job:
        """Return the job that labels the frames with the given ids."""
        return assign(
            label_with_force_field(self.settings, frames, frame_ids), "label", "label", self.cores
        )

    def relax(self, frames: Reference) -> Job:
        """Relax cells and positions of a list of Frames; the output is a list of Frames."""
        return assign(relax_with_force_field(self.settings, frames), "label", "relax", self.cores)


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


@stored_job(LabelBatch, expose_store=True)
def label_with_force_field(
    settings: ForceFieldSettings, frames: list[Frames], frame_ids: list[str]
) -> LabelBatch:
    """Label frames one by one and record each label at once."""
    settings = in_force(settings)
    terms = Terms(level=forcefield.level_of_theory(settings), limits=settings.limits)

    def calculate(frame: Frames) -> LabelDoc:
        result = forcefield.calculate(forcefield.calculator(settings), frame)
        return accept(frame, result, terms.level, terms.limits)

    n_calculated = record_labels(by_id(frames, frame_ids), terms, calculate)
    return LabelBatch(**stamp(settings), frame_ids=frame_ids, n_calculated=n_calculated)


@stored_job()
def relax_with_force_field(settings: ForceFieldSettings, frames: list[Frames]) -> list[Frames]:
    """Relax cells and positions of every frame."""
    calculator = forcefield.calculator(settings)
    return [
        forcefield.relax(calculator, part[index], settings).snapped()
        for part in frames
        for index in range(len(part))
    ]


def without_twins(frames: Sequence[Frames], terms: Terms) -> list[str]:
    """Return the ids of single frames whose configuration has no label in any description.

    The labels of the others are entered as those of the given frames.
    """
    ledger = current_ledger()
    adopted = adopt_twins(ledger, frames, terms)
    ledger.record([label.model_copy(update=stamp()) for label in adopted.values()])
    return [frame.ids[0] for frame in frames if frame.ids[0] not in adopted]


def record_labels(
    frames: Sequence[Frames],
    terms: Terms,
    calculate: Callable[[Frames], LabelDoc],
    cores: int = 1,
) -> int:
    """Calculate frames one by one, recording each label before the next one starts.

    Those that have a label on these terms are left out: an interrupted batch goes on where it was.
    A frame is claimed while it is calculated; those that others calculate are waited for.

    Parameters
    ----------
    frames
        Single frames.
    terms
        Level of theory of the labels, and on what terms one that is there counts.
    calculate
        Labels one frame.
    cores
        Cores of a calculation, which a failed one has cost too.

    Returns
    -------
    int
        How many frames were calculated.

    Raises
    ------
    LabellerError
        At the end, if some frames gave no result: the job counts as failed, so that it can be
        retried, and the turn goes on without those frames.
    """
    ledger, n_calculated, lost = current_ledger(), 0, []
    with closing(ledger.to_calculate(frames, terms)) as claimed:
        for frame in claimed:
            started = time.monotonic()
            try:
                label = calculate(frame)
            except Exception as error:  # noqa: BLE001  # whatever is raised costs one label
                label = failed(frame, terms.level, error, time.monotonic() - started, cores)
                lost.append(f"{label.frame_id}: {label.detail}")
            ledger.record([label.model_copy(update={**stamp(), "effort": terms.effort})])
            n_calculated += 1
    if lost:
        raise LabellerError(f"{len(lost)} of {n_calculated} frames gave no result; {lost[0]}")
    return n_calculated


@collecting_job(Labels, tolerant=True)
def collect_labels(
    level: LevelOfTheory,
    floor: float,
    frames: Any,
    calculated: list[str],
    awaited: list[Any],
    late: bool = False,
    allowance: int = ALLOWANCE,
    limits: AcceptanceLimits | None = None,
) -> Labels:
    """Account for every requested frame: accepted, rejected with its reason, or late.

    The ledger is the truth here, not the batches' outputs: labels that a batch had finished
    before it died count. `awaited` makes this job wait. `late` says that frames without a label
    may still come. `limits` are those of this run, whoever bought a label; a job that version 0.1
    wrote into a queue has none, and takes the verdicts that are there.

    Raises
    ------
    FloorError
        If too few labels were accepted.
    """
    wanted = unique_ids(frames.value)
    found = _judged(wanted, level, limits)
    labels = account(level, wanted, found, set(calculated), late=late)
    tolerances = {"floor": floor, "allowance": allowance} | changed()
    check_floor(labels, tolerances["floor"], tolerances["allowance"])
    return labels.model_copy(update={**stamp(level), "notes": _not_taken(calculated, level)})


@stored_job(Labels, expose_store=True)
def join_late_labels(
    level: LevelOfTheory,
    frame_ids: list[str],
    after: Any = None,
    limits: AcceptanceLimits | None = None,
) -> Labels:
    """Account for labels that came after the quorum of their turn; they were counted there.

    `after` makes this job wait.
    """
    found = _judged(frame_ids, level, limits)
    labels = account(level, frame_ids, found, set(found), late=True)
    return labels.model_copy(update=stamp(level))


def _not_taken(frame_ids: list[str], level: LevelOfTheory) -> list[str]:
    others = current_ledger().not_taken(frame_ids, level)
    return [
        f"the store has {n} labels of these frames at {words}, which were not taken: nothing "
        f"proves that this is the level of this run, {level.words}"
        for words, n in sorted(others.items())
    ]


def _judged(
    frame_ids: list[str], level: LevelOfTheory, limits: AcceptanceLimits | None
) -> dict[str, LabelDoc]:
    ledger = current_ledger()
    if (now := changed().get("limits")) is not None:
        limits = AcceptanceLimits.model_validate(now)
    return ledger.judged(frame_ids, level, limits) if limits else ledger.find(frame_ids, level)


@stored_job(Labels, expose_store=True)
def ingest(
    paths: list[str],
    fmt: str | None,
    type_map: list[str] | None,
    level: LevelOfTheory,
    limits: AcceptanceLimits | None = None,
    physical: PhysicalLimits | None = None,
    check_units: bool = True,
) -> Labels:
    """Read labelled frames, judge them, and enter them into the ledger as bought at a level.

    Raises
    ------
    FrameFileError
        If a file cannot be read, holds no labels, or its numbers look like those of other units.
    InputError
        If none of its frames can be used.
    """
    terms = Terms(level=level, limits=limits or AcceptanceLimits())
    parts: list[Frames] = []
    notes = []
    for path in map(Path, paths):
        parts += [in_stretches(part) for part in read_labelled(path, fmt, type_map, check_units)]
        if n := unconverged(path, fmt):
            notes.append(f"{path}: {n} frames whose SCF did not converge are left out")
    found, told = enter(current_ledger(), judge(parts, terms, physical), terms)
    notes += [f"{', '.join(paths)}: {note}" for note in told]
    labels = account(level, list(found), found, calculated=set())
    return labels.model_copy(update={**stamp(level), "notes": notes})


def read_labelled(
    path: Path, fmt: str | None, type_map: list[str] | None, check_units: bool = True
) -> list[Frames]:
    """Read labelled frames.

    Raises
    ------
    FrameFileError
        If there are frames without energies and forces, or, unless `check_units` is off, if the
        numbers look like those of other units than Å, eV and eV/Å.
    """
    frames = read_frames(path, fmt, type_map, format_key="format, or --format")
    if not all(part.is_labelled for part in frames):
        raise FrameFileError(
            f"{path} holds frames without energies and forces; they cannot be labels"
        )
    if check_units and (found := doubts(frames)):
        raise FrameFileError(f"{path}: {found[0]}. {CONVERT}")
    return frames


CONVERT = (
    "Convert the data to Å, eV and eV/Å; if the numbers are right, say so (check_units: false in "
    "initial.data, --no-check-units for ionloop label)"
)


def unique_ids(frames: Sequence[Frames]) -> list[str]:
    """Return the ids of all frames, each configuration once, in order."""
    return [frame.ids[0] for frame in distinct(frames)]


def by_id(frames: Sequence[Frames], frame_ids: Sequence[str]) -> list[Frames]:
    """Return single frames in the order of the given ids."""
    places = {frame_id: (part, index) for part in frames for index, frame_id in enumerate(part.ids)}
    return [part[index] for part, index in map(places.__getitem__, frame_ids)]


def outstanding(parts: Sequence[Labels]) -> list[str]:
    """Return the frame ids that were late in some part and are in no later one."""
    late = dict.fromkeys(frame_id for part in parts for frame_id in part.late)
    accepted = {frame_id for part in parts for frames in part.frames for frame_id in frames.ids}
    rejected = {rejection.frame_id for part in parts for rejection in part.rejections}
    return [frame_id for frame_id in late if frame_id not in accepted | rejected]


def account(
    level: LevelOfTheory,
    wanted: list[str],
    found: dict[str, LabelDoc],
    calculated: set[str],
    *,
    late: bool = False,
) -> Labels:
    """Build the account of a labelling step.

    Parameters
    ----------
    level
        Level of theory of the labels.
    wanted
        Ids of the requested frames.
    found
        What the ledger has of them.
    calculated
        Ids of those that were not there before this step.
    late
        Whether a frame that the ledger does not have is late, not lost.

    Raises
    ------
    AssertionError
        If requested is not accepted plus rejected plus late: a label would be lost.
    """
    awaited = [i for i in wanted if late and i not in found]
    accepted = [found[i] for i in wanted if i in found and found[i].status is LabelStatus.ACCEPTED]
    good = {label.frame_id for label in accepted} | set(awaited)
    rejections = [_rejection(i, found.get(i)) for i in wanted if i not in good]
    new = [found[i] for i in wanted if i in found and i in calculated]
    # A key names the elements of its frame, a data set the level of all of them.
    frames = concatenate(replace(label.frame, level=level.hash) for label in accepted)
    n_accepted = sum(len(part) for part in frames)
    if len(wanted) != n_accepted + len(rejections) + len(awaited):
        raise AssertionError(
            f"{len(wanted)} labels requested, {n_accepted} accepted, {len(rejections)} rejected, "
            f"{len(awaited)} late"
        )
    return Labels(
        level=level,
        n_requested=len(wanted),
        n_reused=len(wanted) - len(calculated & set(wanted)),
        n_accepted=n_accepted,
        rejections=rejections,
        late=awaited,
        seconds=sum(label.seconds for label in new),
        core_seconds=sum(label.seconds * label.cores for label in new),
        frames=frames,
    )


def check_floor(labels: Labels, floor: float, allowance: int = ALLOWANCE) -> None:
    """Raise if too few labels were accepted.

    Parameters
    ----------
    labels
        The account of a labelling step.
    floor
        Smallest accepted fraction.
    allowance
        Labels that may be lost whatever the fraction. Of a small step the loss of one is a large
        fraction and says little; a step of which nothing is left has taught nothing, and fails.

    Raises
    ------
    FloorError
        If the accepted fraction is below `floor` and more is lost than `allowance`, or all.
    """
    lost = labels.n_requested - labels.n_accepted
    excused = labels.n_accepted > 0 and lost <= allowance
    if excused or labels.n_accepted >= floor * labels.n_requested:
        return
    fates = labels.rejected_by_reason | ({"late": len(labels.late)} if labels.late else {})
    details = [rejection.detail for rejection in labels.rejections] or ["they are late"]
    raise FloorError(
        f"{labels.n_accepted} of {labels.n_requested} labels were accepted, the floor is "
        f"{floor:.0%} (label.floor) or a loss of {allowance} (label.allowance); rejected: "
        f"{', '.join(f'{n} {fate}' for fate, n in fates.items())}; first: {details[0]}"
    )


def _rejection(frame_id: str, label: LabelDoc | None) -> Rejection:
    if label is None or label.reason is None:
        detail = "the labelling job ended before this frame was done"
        return Rejection(frame_id=frame_id, reason=RejectReason.NO_RESULT, detail=detail)
    return Rejection(frame_id=frame_id, reason=label.reason, detail=label.detail)
