"""Labels from an ensemble that was trained before: what a student is trained on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from jobflow import Job, OutputReference

from ionloop.codes import potentials
from ionloop.codes.common.prediction import force_errors
from ionloop.codes.teacher import TeacherSettings
from ionloop.jobs.documents import stamp, stored_job
from ionloop.jobs.label.batches import BatchLabelMaker
from ionloop.jobs.label.record import LabelBatch, by_id, record_labels
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.tolerances import in_force
from ionloop.jobs.train.split import split
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels
from ionloop.schemas.potential import EnsembleDoc, ForceErrors, Teacher


@dataclass
class TeacherLabelMaker(BatchLabelMaker):
    """Labels frames with the mean of an ensemble, at a level of theory of its own.

    Parameters
    ----------
    settings
        The ensemble, by the content of its models.
    job
        Uuid of the job that wrote its `EnsembleDoc`, from which jobs load the models.

    Examples
    --------
    >>> teacher = Teacher(kind="deepmd", job="0a1b", models=["2c3d"], level="4e", labels=[])
    >>> maker = TeacherLabelMaker.of(teacher)
    >>> maker.level.description
    "teacher (kind deepmd, models ['2c3d'])"
    """

    batch_size: int = 100
    floor: float = 0.5
    settings: TeacherSettings = field(kw_only=True)
    job: str = field(kw_only=True)

    @classmethod
    def of(cls, teacher: Teacher, device: str = "cpu", cores: int = 1) -> TeacherLabelMaker:
        """Return the Maker of a teacher that is described.

        Parameters
        ----------
        teacher
            Its description.
        device
            Device of torch.
        cores
            Cores of one job.

        Raises
        ------
        InputError
            If no job wrote its ensemble, so that no job can load it.
        """
        if teacher.job is None:
            raise InputError("the teacher is no output of a job, from which others could load it")
        settings = TeacherSettings(kind=teacher.kind, models=teacher.models, device=device)
        return cls(settings=settings, job=teacher.job, cores=cores)

    @property
    def ensemble(self) -> OutputReference:
        """Reference to the `EnsembleDoc`."""
        return OutputReference(self.job)

    def batch(self, frames: list[Frames], frame_ids: list[str]) -> Job:
        """Return the job that labels some frames and records each label.

        Parameters
        ----------
        frames, frame_ids
            As for `BatchLabelMaker.batch`.
        """
        job = label_by_teacher(self, self.ensemble, frames, frame_ids)
        return assign(job, Role.LABEL, "label by the teacher", self.cores)


@stored_job(LabelBatch, expose_store=True)
def label_by_teacher(
    maker: TeacherLabelMaker, ensemble: EnsembleDoc, frames: list[Frames], frame_ids: list[str]
) -> LabelBatch:
    """Label frames with models that are loaded once, and record each label at once.

    Parameters
    ----------
    maker
        The labeller.
    ensemble
        The models.
    frames
        Frames that hold those to label.
    frame_ids
        Ids of the frames to label.
    """
    maker = in_force(maker)
    files = [member.model for member in ensemble.members]
    maker = replace(maker, settings=maker.settings.with_models(files, Path.cwd() / "teacher"))
    n_calculated = record_labels(by_id(frames, frame_ids), maker.terms, maker.label, maker.cores)
    return LabelBatch(**stamp(maker.level), frame_ids=frame_ids, n_calculated=n_calculated)


@stored_job()
def describe_teacher(
    ensemble: EnsembleDoc, dataset: list[Labels], validation_fraction: float
) -> Teacher:
    """Describe an ensemble that is to teach, with its error on labels that were held back from it.

    Parameters
    ----------
    ensemble
        The models.
    dataset
        Labels that it was trained on, those held back included.
    validation_fraction
        Fraction of the frames that was held back.

    Raises
    ------
    InputError
        If it has fewer than two models: frames are judged by their deviation.
    """
    if len(ensemble.members) < 2:
        raise InputError(
            f"a teacher needs 2 models or more, whose deviation ends trajectories that explode; "
            f"this ensemble has {len(ensemble.members)}"
        )
    bases = {member.base.sha256: member.base for member in ensemble.members if member.base}
    return Teacher(
        kind=ensemble.kind,
        job=ensemble.provenance.job,
        models=[member.model.sha256 for member in ensemble.members],
        bases=list(bases.values()),
        level="+".join(sorted({labels.level.hash for labels in dataset})),
        labels=[i for labels in dataset for part in labels.frames for i in part.ids],
        validation_errors=_held_back_errors(ensemble, dataset, validation_fraction),
    )


def _held_back_errors(
    ensemble: EnsembleDoc, dataset: list[Labels], fraction: float
) -> ForceErrors | None:
    _, held = split(dataset, fraction, allow_mixed=True)
    models = [member.model for member in ensemble.members]
    folder = Path.cwd() / "teacher"
    predicted = [potentials.predict(ensemble.kind, models, part, folder) for part in held]
    return force_errors(predicted, held) if held else None
