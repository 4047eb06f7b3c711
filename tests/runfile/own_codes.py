"""Codes of a user's own: what a run file names by import path, with nothing entered anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field, PositiveInt

from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.preflight.codes.base import label_seconds, look_at_code
from ionloop.preflight.findings import Finding, warning
from ionloop.runfile.sections.base import BatchLabelSection, TrainSection
from ionloop.schemas.document import Model


class OwnLabelSection(BatchLabelSection, ForceFieldSettings):
    """Labels from an effective medium."""

    settings_type = ForceFieldSettings
    maker_type = ForceFieldLabelMaker

    model: str = Field("ase.calculators.emt:EMT", description="another default")


class MeasuredLabelSection(OwnLabelSection):
    """The same, of which the check knows more."""


@look_at_code.register(MeasuredLabelSection)
def look(section: MeasuredLabelSection, elements: Sequence[str]) -> Iterator[Finding]:
    yield warning("label.model", f"nobody measured {' and '.join(elements)}")


@label_seconds.register(MeasuredLabelSection)
def seconds(section: MeasuredLabelSection, n_atoms: int) -> float:
    return 3600.0


class OwnTrainSettings(Model):
    depth: PositiveInt = Field(2, description="layers")


class OwnTrainMaker(DeepmdTrainMaker):
    kind = "own"


class OwnTrainSection(TrainSection, OwnTrainSettings):
    """Models of a kind that LAMMPS does not run."""

    settings_type = OwnTrainSettings
    maker_type = OwnTrainMaker

    n_models: PositiveInt = Field(3, description="models")
    min_models: PositiveInt = Field(2, description="models that must succeed")
    validation_fraction: float = Field(0.1, description="fraction held back")
