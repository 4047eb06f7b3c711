"""The section of the training at the end, and of the teacher that may label for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from ionloop.flows.distillation.settings import Distillation
from ionloop.runfile.errors import refused
from ionloop.runfile.sections.base import ExploreSection, Production, TrainSection
from ionloop.runfile.sections.lammps import LammpsSection
from ionloop.runfile.sections.registry import AnyExploreSection, section_type
from ionloop.schemas.errors import InputError


class DistillationSection(Distillation):
    """The last ensemble teaches the potential: it labels, and nothing is bought."""

    explore: AnyExploreSection | None = None
    """exploration with the students, as in `explore`; none: LAMMPS with its defaults if they are of
    another code than the ensemble and it runs their potentials, otherwise that of the run"""


class ProductionSection(Production):
    """The training at the end; any key of `train` may be given here too and then replaces it."""

    teacher: DistillationSection | None = None
    """train on what the last ensemble says of many geometries, and on the labels; {} for the
    defaults; none: on the labels alone"""

    def section(self, train: TrainSection) -> TrainSection:
        """Return the section that trains the potential at the end.

        With a `code` of its own it has nothing of the section `train` but the fraction that is held
        back.

        Parameters
        ----------
        train
            The section `train` of the run file.
        """
        if self.code in (None, train.code):
            return train.for_production(self)
        given: dict[str, Any] = {"code": self.code}
        kind = section_type("train", given)
        fraction = {"validation_fraction": train.validation_fraction}
        own: Any = kind.model_validate(given | fraction)
        section: TrainSection = own.for_production(self)
        return section

    def located(self, train: TrainSection, folder: Path) -> Self:
        """Return the section with paths relative to a folder made absolute.

        Parameters
        ----------
        train
            The section `train` of the run file.
        folder
            The folder.
        """
        given = self.section(train)
        placed = given.located(folder)
        paths = [key for key in self.overrides if getattr(placed, key) != getattr(given, key)]
        return self.model_copy(update={key: getattr(placed, key) for key in paths})

    def explorer(self, train: TrainSection, explore: ExploreSection) -> ExploreSection:
        """Return the section of the exploration with the students.

        Parameters
        ----------
        train, explore
            The sections of the run file.
        """
        if self.teacher is not None and self.teacher.explore is not None:
            return self.teacher.explore
        kind = self.section(train).maker_type.kind
        if kind == train.maker_type.kind or kind not in LammpsSection.maker_type.drives:
            return explore
        return explore if isinstance(explore, LammpsSection) else LammpsSection()

    def check(self, train: TrainSection) -> None:
        """Check that the potential can be trained so.

        Parameters
        ----------
        train
            The section `train` of the run file.

        Raises
        ------
        ValidationError
            If a key is unknown or wrong, or the teacher could not be judged or used.
        """
        section, teacher = self.section(train), self.teacher
        if teacher is None:
            return
        if not train.validation_fraction:
            message = (
                "the teacher is judged by labels that are held back from it, and "
                "train.validation_fraction is 0: set it above 0"
            )
            raise refused(("teacher",), message, teacher)
        try:
            section.maker([]).weighing(teacher.label_weight)
        except InputError as problem:
            raise refused(("teacher", "label_weight"), str(problem), teacher) from None
