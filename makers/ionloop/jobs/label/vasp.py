"""Labels from VASP."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Job

from ionloop.codes.vasp.potcars import check_known, pinned
from ionloop.codes.vasp.settings import VaspSettings
from ionloop.jobs.label.batches import BatchLabelMaker
from ionloop.schemas.frames import Frames


@dataclass
class VaspLabelMaker(BatchLabelMaker):
    """Labels from VASP, one job per frame, so that a queue spreads them.

    Parameters
    ----------
    settings
        Level of theory, command, and the limits on the labels.

    Examples
    --------
    >>> maker = VaspLabelMaker(settings=VaspSettings(preset="lgps", encut=400))
    >>> maker.level.settings["ENCUT"], maker.level.settings["GGA"]
    (400, 'PE')
    """

    name: str = "label with VASP"
    batch_size: int = 1
    quorum: float = 0.95
    settings: VaspSettings = field(default_factory=lambda: VaspSettings(preset="lgps"))

    def __post_init__(self) -> None:
        """Fix the level of theory: the POTCARs of the host where the Maker is made count."""
        object.__setattr__(self, "settings", pinned(self.settings))

    def batch(self, frames: list[Frames], frame_ids: list[str]) -> Job:
        """Return the job that labels some frames and records each label.

        Raises
        ------
        MissingPotcarError
            If it is not known which POTCAR the labels would be of.
        """
        check_known(self.settings, [symbol for part in frames for symbol in part.species])
        return super().batch(frames, frame_ids)
