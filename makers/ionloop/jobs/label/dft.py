"""Labels from DFT programs that run outside, one start per frame: GPAW and CP2K."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from jobflow import Job

from ionloop.codes import cp2k, gpaw
from ionloop.codes.common.acceptance import Terms, accept
from ionloop.codes.common.dft import DftSettings
from ionloop.codes.cp2k.settings import Cp2kSettings
from ionloop.codes.forcefield.calculation import relax
from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.jobs.decorators import stored_job
from ionloop.jobs.label.batches import BatchLabelMaker
from ionloop.jobs.label.record import LabelBatch, by_id, record_labels
from ionloop.jobs.placement import assign
from ionloop.jobs.provenance import stamp
from ionloop.jobs.roles import Reference
from ionloop.jobs.tolerances import in_force
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, LevelOfTheory

CODES: dict[str, ModuleType] = {"gpaw": gpaw, "cp2k": cp2k}


@dataclass
class DftLabelMaker(BatchLabelMaker):
    """Base class of the labellers that start a DFT program per frame.

    Parameters
    ----------
    settings
        Level of theory, command, and the limits on the labels.
    batch_size
        Frames per job, calculated one after another.
    cores
        MPI ranks of a calculation.
    """

    batch_size: int = 5
    settings: DftSettings = field(default_factory=GpawSettings)

    @property
    def level(self) -> LevelOfTheory:
        """The level of theory of the labels."""
        level: LevelOfTheory = CODES[self.settings.program].level_of_theory(self.settings)
        return level

    @property
    def terms(self) -> Terms:
        """On what terms labels are taken from the ledger, or bought."""
        settings = self.settings
        return Terms(level=self.level, limits=settings.limits, effort=settings.effort)

    def label(self, frame: Frames) -> LabelDoc:
        """Calculate one frame in a folder of its own, and judge the result.

        Raises
        ------
        ProgramError, ProgramNotFoundError
            If there was no result.
        """
        calculate = CODES[self.settings.program].calculate
        result = calculate(self.settings, frame, Path.cwd() / frame.ids[0], self.cores)
        return accept(frame, result, self.level, self.settings.limits)

    def batch(self, frames: list[Frames], frame_ids: list[str]) -> Job:
        """Return the job that labels the frames with the given ids."""
        return assign(label_with_dft(self, frames, frame_ids), "label", "label", self.cores)

    def relax(self, frames: Reference) -> Job:
        """Relax cells and positions of a list of Frames; the output is a list of Frames."""
        return assign(relax_with_dft(self, frames), "label", "relax", self.cores)


@dataclass
class GpawLabelMaker(DftLabelMaker):
    """Labels from GPAW in plane waves.

    Parameters
    ----------
    settings
        Level of theory, command, and the limits on the labels.
    """

    name: str = "label with GPAW"
    settings: GpawSettings = field(default_factory=GpawSettings)


@dataclass
class Cp2kLabelMaker(DftLabelMaker):
    """Labels from CP2K.

    Parameters
    ----------
    settings
        Level of theory, command, and the limits on the labels.
    """

    name: str = "label with CP2K"
    settings: Cp2kSettings = field(default_factory=Cp2kSettings)


@stored_job(LabelBatch, expose_store=True)
def label_with_dft(maker: DftLabelMaker, frames: list[Frames], frame_ids: list[str]) -> LabelBatch:
    """Label frames one by one, each in a folder of its own, and record each label at once."""
    maker = in_force(maker)
    n_calculated = record_labels(by_id(frames, frame_ids), maker.terms, maker.label, maker.cores)
    return LabelBatch(**stamp(maker.settings), frame_ids=frame_ids, n_calculated=n_calculated)


@stored_job()
def relax_with_dft(maker: DftLabelMaker, frames: list[Frames]) -> list[Frames]:
    """Relax cells and positions of every frame."""
    calculator = maker.settings.ase_calculator(Path.cwd() / "relax", maker.cores)
    singles = [part[index] for part in frames for index in range(len(part))]
    return [relax(calculator, frame, maker.settings) for frame in singles]
