"""Labels from outside: frames are written to files, the run pauses, results are imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobflow import CURRENT_JOB, Job
from pydantic import Field

from ionloop.codes.common.acceptance import Terms, accept, failed, judged, stands
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.external.requests import find_request, write_requests
from ionloop.codes.external.settings import ExternalSettings, level_of_theory
from ionloop.formats.errors import FrameFileError
from ionloop.jobs.documents import stamp, stored_job
from ionloop.jobs.label.accounts import rejection
from ionloop.jobs.label.batches import BatchLabelMaker
from ionloop.jobs.label.imports import calculated, energy_fault, read_labelled, rejected
from ionloop.jobs.label.ledger import Ledger, current_ledger
from ionloop.jobs.label.record import LabelBatch, by_id
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.roles import Reference
from ionloop.schemas.document import Model
from ionloop.schemas.errors import IonloopError, UnsupportedError
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, LabelStatus, LevelOfTheory, Rejection, RejectReason


class WaitingForLabelsError(IonloopError, RuntimeError):
    """Frames wait for labels from outside; the run pauses."""


@dataclass
class ExternalLabelMaker(BatchLabelMaker):
    """Labels that are calculated outside and imported.

    Parameters
    ----------
    settings
        Description of the level of theory, and the folder for the frames.

    Examples
    --------
    >>> maker = ExternalLabelMaker(settings=ExternalSettings(level="CASTEP, PBE, 600 eV"))
    >>> maker.level.settings
    {'level': 'CASTEP, PBE, 600 eV'}
    """

    name: str = "label outside"
    batch_size: int = 1_000_000
    settings: ExternalSettings = field(  # type: ignore[assignment]  # it calculates nothing here
        default_factory=lambda: ExternalSettings(level="external")
    )

    @property
    def level(self) -> LevelOfTheory:
        """The level of theory of the labels."""
        return level_of_theory(self.settings)

    @property
    def terms(self) -> Terms:
        """Conditions on which a label is taken from the ledger or waited for."""
        return Terms(level=self.level, limits=self.settings.limits)

    def batch(self, frames: list[Frames], frame_ids: list[str]) -> Job:
        """Return the job that waits for the labels of the frames with the given ids."""
        job = wait_for_labels(self, frames, frame_ids)
        return assign(job, Role.LABEL, "wait for labels", bookkeeping=True)

    def relax(self, frames: Reference) -> Job:
        """Refuse: what runs outside cannot be asked to relax.

        Raises
        ------
        UnsupportedError
            Always.
        """
        raise UnsupportedError(
            "an outside labeller does not relax; set initial.relax to false and relax the start "
            "structures before the run"
        )

    def aimd(self, frames: Reference, run: MolecularDynamics) -> Job:
        """Refuse: what runs outside cannot be asked for molecular dynamics.

        Raises
        ------
        UnsupportedError
            Always.
        """
        raise UnsupportedError(
            f"{self.name}: this labeller runs no molecular dynamics; leave initial.aimd out, or "
            "name the labels of a run that was made elsewhere in initial.data"
        )


@stored_job(LabelBatch, expose_store=True)
def wait_for_labels(
    maker: ExternalLabelMaker, frames: list[Frames], frame_ids: list[str]
) -> LabelBatch:
    """Write the frames without a label to files; end when all of them have one.

    Parameters
    ----------
    maker
        The labeller.
    frames
        Frames that hold those to label.
    frame_ids
        Ids of the frames to label.

    Raises
    ------
    WaitingForLabelsError
        While labels are missing.
    """
    ledger = current_ledger()
    missing = ledger.unsettled(by_id(frames, frame_ids), maker.terms)
    if missing:
        failures = [failed(frame, maker.level, WaitingForLabelsError()) for frame in missing]
        words = "waits for its label from outside"
        waiting = [rejected(each, RejectReason.NO_RESULT, words) for each in failures]
        ledger.record([label.model_copy(update=stamp()) for label in waiting])
        raise WaitingForLabelsError(_write_out(maker.settings, missing))
    return LabelBatch(**stamp(maker.settings), frame_ids=frame_ids, n_calculated=0)


def _write_out(settings: ExternalSettings, frames: list[Frames]) -> str:
    run = stamp()["run"] or "run"
    folder = settings.folder / run / _step()
    write_requests(frames, folder)
    return (
        f"{len(frames)} frames to label are in {folder}; import what is finished with "
        f"`ionloop label {run} PATH...`, then go on with `ionloop resume {run} --retry-failed`"
    )


def _step() -> str:
    """Name the step of the run: the turn, or what comes before or after the loop."""
    job = CURRENT_JOB.job
    turn = job.metadata.get("iteration") if job else None
    if turn is not None:
        return f"turn-{turn}"
    return "validation" if job and job.name.startswith("validation") else "initial"


class Imported(Model):
    """What became of the calculations that were offered."""

    accepted: list[str] = Field([])
    rejected: list[Rejection] = Field([])
    unmatched: list[str] = Field([])
    duplicates: list[str] = Field([])
    unreadable: list[str] = Field([])
    n_missing: int = 0


def import_labels(
    ledger: Ledger,
    settings: ExternalSettings,
    run: str,
    paths: Sequence[Path],
    fmt: str | None = None,
    check_units: bool = True,
) -> Imported:
    """Enter finished calculations into the ledger as labels of the frames that a run waits for.

    Parameters
    ----------
    ledger
        The ledger of the run's store.
    settings
        Level of theory and limits.
    run
        Id of the run.
    paths
        Files, or folders of DeePMD data, with one labelled frame or many.
    fmt
        Name that dpdata or ASE has for the format; by default it follows from each path.
    check_units
        Whether to refuse files whose numbers look like those of other units.

    Returns
    -------
    Imported
        What became of every calculation, and how many frames still have no label.
    """
    level = level_of_theory(settings)
    known = {label.frame_id: label for label in ledger.of_run(run, level)}
    report = Imported()
    requests = {frame_id: label.frame.unlabelled() for frame_id, label in known.items()}
    for name, frame in _read(paths, fmt, check_units, report.unreadable):
        match = find_request(frame, requests, settings.limits.position_tolerance)
        if match is None:
            report.unmatched.append(name)
        elif judged(known[match[0]], settings.limits).status is LabelStatus.ACCEPTED:
            report.duplicates.append(f"{name}: frame {match[0]} has its label")
        else:
            label = _judge(known[match[0]], match[1], level, settings)
            known[label.frame_id] = label
            ledger.record([label])
            if label.reason is None:
                report.accepted.append(label.frame_id)
            else:
                report.rejected.append(rejection(label.frame_id, label))
    terms = Terms(level=level, limits=settings.limits)
    waiting = sum(not stands(label, terms) for label in known.values())
    return report.model_copy(update={"n_missing": waiting})


def _read(
    paths: Sequence[Path], fmt: str | None, check_units: bool, unreadable: list[str]
) -> Iterator[tuple[str, Frames]]:
    for path in paths:
        try:
            parts = read_labelled(path, fmt, None, check_units)
        except (FrameFileError, ValueError) as error:
            unreadable.append(str(error))
            continue
        frames = [frame for part in parts for frame in part]
        for number, frame in enumerate(frames, 1):
            yield (str(path) if len(frames) == 1 else f"{path}, frame {number}"), frame


def _judge(
    waiting: LabelDoc, given: Frames, level: LevelOfTheory, settings: ExternalSettings
) -> LabelDoc:
    verdict = accept(waiting.frame.unlabelled(), calculated(given), level, settings.limits)
    if verdict.reason is None and (fault := energy_fault(given)):
        verdict = rejected(verdict, RejectReason.OUTLIER, fault)
    belongs = {"run": waiting.run, "iteration": waiting.iteration}
    return verdict.model_copy(update={**belongs, "provenance": waiting.provenance})
