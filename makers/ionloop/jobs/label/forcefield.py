"""Labels from universal potentials and ASE calculators."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Job

from ionloop.codes import forcefield
from ionloop.codes.common.acceptance import Terms, accept
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.jobs.decorators import stored_job
from ionloop.jobs.label.batches import BatchLabelMaker
from ionloop.jobs.label.record import LabelBatch, by_id, record_labels
from ionloop.jobs.placement import assign
from ionloop.jobs.provenance import stamp
from ionloop.jobs.roles import Reference
from ionloop.jobs.tolerances import in_force
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, LevelOfTheory


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
